"""What the XML of a CZI file states: pixel size, time step, channels."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from pairfree.files.formats.tiff_meta import Stated, number_in
from pairfree.files.formats.vendor_parts import TIMES, step_of
from pairfree.files.image import Spacing

BIT_DEPTHS = ("10", "12", "14")
"""Of cameras whose pixels are stored with 16 bits."""
DIMENSIONS = "./Metadata/Information/Image/Dimensions"


def read_stated(xml: bytes, channels: Sequence[int], lines: list[str]) -> Stated:
    """What a file states about the pixels of a scene.

    Parameters
    ----------
    xml
        Its metadata; empty where it has none.
    channels
        Numbers of the channels of the scene, from 0.
    lines
        Warnings; one is added where the metadata are damaged.
    """
    root = _parse(xml)
    if root is None:
        if xml:
            lines.append("its metadata are damaged; pixel size and channel names are not known")
        return Stated()
    entries = root.findall(f"{DIMENSIONS}/Channels/Channel")
    return Stated(_spacing(root), _names(entries, channels), _bit_depth(entries))


def _parse(xml: bytes) -> ElementTree.Element | None:
    """The root of metadata; None for damaged ones, and for such as define entities."""
    if b"<!" in xml.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        return None
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def _spacing(root: ElementTree.Element) -> Spacing:
    """Metres as micrometres, which are what people read, and seconds."""
    spacing = {}
    for axis in "XYZ":
        metres = root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value", "")
        step = step_of(number_in(metres) * 1e6, "µm", ("µm",))
        if step is not None:
            spacing[axis] = step
    seconds = root.findtext(f"{DIMENSIONS}/T/Positions/Interval/Increment", "")
    step = step_of(number_in(seconds), "s", TIMES)
    if step is not None:
        spacing["T"] = step
    return spacing


def _names(entries: Sequence[ElementTree.Element], channels: Sequence[int]) -> tuple[str, ...]:
    """Names of the channels that a scene has, of all that the file describes."""
    names = [one.get("Name") or "" for one in entries]
    described = all(0 <= number < len(names) for number in channels)
    if len(names) > len(channels) and described:
        names = [names[number] for number in channels]
    return tuple(names) if any(names) else ()


def _bit_depth(entries: Sequence[ElementTree.Element]) -> int | None:
    """Bits that carry signal, where all channels state the same."""
    depths = {one.findtext("ComponentBitCount", "") for one in entries}
    text = depths.pop() if len(depths) == 1 else ""
    return int(text) if text in BIT_DEPTHS else None
