"""Which images a Zarr folder holds: itself, those of a collection, those in the wells of a plate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairfree.errors import InputError
from pairfree.files.formats.tiff_order import count_described, cut_to_images
from pairfree.files.formats.zarr_files import (
    ATTRIBUTES,
    MARKS,
    OF_FORMAT_3,
    ZarrFiles,
    files_at,
    join,
)
from pairfree.files.formats.zarr_layout import Attributes, plain
from pairfree.files.limits import Limits
from pairfree.files.messages import address_of, shown

FIRST = "0"
"""Of bioformats2raw: where the first image lies."""
OME_GROUP = "OME"
"""Of bioformats2raw: what holds for all images."""
OME_XML = "OME/METADATA.ome.xml"
"""Of bioformats2raw: what the maker's file said, one element an image."""


def count_images(path: Path, limits: Limits) -> int:
    """Number of the images of a Zarr folder."""
    return len(list_images(files_at(path)))


def list_images(files: ZarrFiles) -> list[str]:
    """Names of the images in a Zarr folder: all wells of a plate, all images of a collection, else itself.

    Parameters
    ----------
    files
        Of the folder.

    Returns
    -------
    list of str
        Folders within it; an empty name for the folder itself.
    """
    import zarr

    from pairfree.files.formats.zarr_bounds import quiet_and_bounded

    check_marks(files)
    with quiet_and_bounded():
        root = zarr.open(files.store, mode="r")
        if isinstance(root, zarr.Array):
            return [""]
        attributes = plain(root.attrs)
        if "plate" in ome_of(attributes):
            return images_of_plate(root, files.path)
        if multiscales_of(attributes):
            return [""]
        return images_of_collection(root) or [""]


def read_ome_xml(files: ZarrFiles, name: str) -> bytes:
    """What a collection's or a plate's OME-XML says of one of its images; empty where there is none.

    Of a file that does not tell which of its images is which, all.

    Parameters
    ----------
    files
        Of the collection.
    name
        Of the image, as in ``list_images``.
    """
    if files.size(OME_XML) is None:
        return b""
    files.check_metadata(OME_XML)
    xml = files.read(OME_XML)
    of_format_3 = files.read_json(join(OME_GROUP, OF_FORMAT_3)).get("attributes", {})
    attributes = files.read_json(join(OME_GROUP, ATTRIBUTES)) or of_format_3
    order = ome_of(attributes).get("series")
    if not isinstance(order, list):
        order = list_images(files)
    if len(order) != count_described(xml) or name not in order:
        return xml
    return cut_to_images(xml, [order.index(name)])


def _check_inside(name: str, path: Path) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"{shown(path)}: its metadata name an image outside of it ({shown(name)}); "
            "export it again"
        )


def images_of_collection(root: Any) -> list[str]:
    """Names of the images that bioformats2raw numbered."""
    found = []
    for name, group in root.groups():
        if name.isdigit() and multiscales_of(plain(group.attrs)):
            found.append(str(name))
    return sorted(found, key=int)


def images_of_plate(root: Any, path: Path) -> list[str]:
    """Names of the images in all wells of a plate."""
    plate = ome_of(plain(root.attrs))["plate"]
    found = []
    for one in plate.get("wells", []):
        well = str(one.get("path"))
        _check_inside(well, path)
        described = ome_of(plain(root[well].attrs)) if well in root else {}
        fields = (described.get("well") or {}).get("images") or [{"path": FIRST}]
        for field in fields:
            _check_inside(str(field.get("path")), path)
            found.append(join(well, str(field.get("path"))))
    return found or [f"A/1/{FIRST}"]


def ome_of(group: Attributes) -> Attributes:
    """Where OME's attributes are: below "ome" from 0.5 on."""
    inside = group.get("ome")
    return inside if isinstance(inside, dict) else group


def multiscales_of(group: Attributes) -> list[Any]:
    """What OME's attributes say of images at several resolutions; empty where they say nothing."""
    found = ome_of(group).get("multiscales")
    return found if isinstance(found, list) else []


def check_marks(files: ZarrFiles) -> None:
    """InputError for what bears no mark of Zarr, or metadata that are too large to be any."""
    for mark in MARKS:
        files.check_metadata(mark)
    if any(files.size(mark) is not None for mark in MARKS):
        return
    remedy = "it is no Zarr folder, or was not copied whole"
    if address_of(files.path) is not None:
        remedy = "check the address and the connection"
    raise InputError(f"{shown(files.path)}: holds none of {', '.join(MARKS)}; {remedy}")
