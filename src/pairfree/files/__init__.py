"""Files to Images and back: formats, limits, atomic writes, listing. No torch here."""

from pairfree.files.differences import differences
from pairfree.files.dtypes import to_dtype
from pairfree.files.formats.table import FORMATS, SUFFIXES
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits
from pairfree.files.listing import Entry, find_images, plan_outputs
from pairfree.files.opening import open_image, save_image
from pairfree.files.sinks import Sink, open_sink

__all__ = [
    "DEFAULT",
    "FORMATS",
    "SUFFIXES",
    "Entry",
    "Image",
    "Limits",
    "Sink",
    "differences",
    "find_images",
    "open_image",
    "open_sink",
    "plan_outputs",
    "save_image",
    "to_dtype",
]
