"""What results kept of their inputs and what they lost: file against file, from the files alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pairfree.errors import InputError
from pairfree.files.checks import Check, check_same
from pairfree.files.differences import spacing_differences, spacing_text
from pairfree.files.formats.table import is_supported, result_family
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT
from pairfree.files.listing import Entry, find_images, output_path
from pairfree.files.messages import address_of, shown
from pairfree.files.metadata_checks import METADATA
from pairfree.files.opening import is_on_server, open_image
from pairfree.files.pixel_checks import PLACE, check_pixels
from pairfree.files.resolutions import check_resolutions
from pairfree.files.scale import GAINS, check_intensities
from pairfree.files.wide_integers import type_in_file

STREAMED = replace(DEFAULT, resident_bytes=2**27)
"""Larger images stay in their files and are compared part by part."""


@dataclass(frozen=True)
class Verification:
    """What results kept of their inputs and what they lost.

    Examples
    --------
    >>> found = verify("noisy", "denoised")
    >>> for name, check in found.lost:
    ...     print(f"{name}: {check.name} was {check.before}, is {check.after}")
    """

    files: dict[str, list[Check]]
    """All checks of each result, by the name of its input within its folder."""

    @property
    def lost(self) -> list[tuple[str, Check]]:
        """What was lost, each with the name of its input."""
        found = []
        for name, checks in self.files.items():
            for one in checks:
                if one.kept is False:
                    found.append((name, one))
        return found

    @property
    def kept(self) -> bool:
        """Whether nothing was lost."""
        return not self.lost

    @property
    def not_judged(self) -> list[str]:
        """Names of the inputs whose pixels are too few, or show too little, to judge their results by."""
        found = []
        for name, checks in self.files.items():
            if any(one.name == PLACE and one.kept is None for one in checks):
                found.append(name)
        return found

    @property
    def scale_changed(self) -> bool:
        """Whether gains are among what was lost: methods that restore brightness change them on purpose."""
        return any(check.name in GAINS for _, check in self.lost)

    def as_dict(self) -> dict[str, list[dict[str, Any]]]:
        """All checks as plain values, for JSON."""
        found = {}
        for name, checks in self.files.items():
            found[name] = [asdict(one) for one in checks]
        return found


def verify(
    given: str | Path,
    result: str | Path,
    any_scale: bool = False,
    scene: int | str | None = None,
) -> Verification:
    """Tell what results kept of their inputs and what they lost, from the files alone.

    Compared are pixel type, shape, axes, pixel size, names, the metadata of each format, lower resolutions,
    intensities, scenes, and whether each plane may be a denoiser's result of its input.

    Parameters
    ----------
    given
        An input file, or a folder of them.
    result
        Its result, or the folder where results lie as ``pairfree denoise`` puts them; also on a server.
    any_scale
        Gains are stated and not judged: of methods that restore brightness and contrast.
    scene
        As it was given to ``denoise``.

    Returns
    -------
    Verification
        The checks of each result; a result that is missing is a check of its own.

    Raises
    ------
    InputError
        For what does not exist or cannot be read.
    """
    given, result = Path(given), Path(result)
    entries = find_images([given], scene, without=result)
    first = entries[0]
    one_file = len(entries) == 1 and first.path == given
    if one_file and _is_image(result):
        checks = compare(given, result, any_scale, first.scene)
        return Verification({str(first.relative): checks})
    on_server = address_of(result) is not None  # few servers tell whether a folder is there
    if not on_server and not result.is_dir():
        wanted = "file" if len(entries) == 1 else "folder of results"
        raise InputError(f"{shown(result)}: no such {wanted}; name what was written")
    files = {}
    for entry in entries:
        files[str(entry.relative)] = _compare_entry(entry, result, any_scale)
    return Verification(files)


def _is_image(path: Path) -> bool:
    """Whether a result is one image and no folder of results."""
    if address_of(path) is not None:
        return is_on_server(path)
    if path.is_file():
        return True
    return path.exists() and is_supported(path)


def _compare_entry(entry: Entry, folder: Path, any_scale: bool) -> list[Check]:
    path = output_path(entry, folder)
    there = path.exists() if address_of(path) is None else is_on_server(path)
    if not there:
        return [Check("file", path.name, "missing", False)]
    return compare(entry.path, path, any_scale, entry.scene)


def compare(
    first: Path, second: Path, any_scale: bool = False, scene: int | None = None
) -> list[Check]:
    """All checks of a result against its input, those that apply to their format.

    Parameters
    ----------
    first, second
        The input and its result.
    any_scale
        As of ``verify``.
    scene
        Number of the image in the input; the result holds one.

    Raises
    ------
    InputError
        For what cannot be read.
    """
    a = open_image(first, STREAMED, scene)
    b = open_image(second, STREAMED)
    families = (a.family, result_family(a.family))
    of_one_family = b.family in families
    found = [Check("format", a.family, b.family, of_one_family)]
    found += _check_layout(a, b)
    if of_one_family:
        found += METADATA[a.family](a, b)
    found += check_resolutions(a, b, STREAMED)
    if (a.leading, a.height, a.width, a.samples) == (b.leading, b.height, b.width, b.samples):
        found += check_intensities(a, b, any_scale)
        found += check_pixels(a, b, any_scale)
    return found


def _check_layout(a: Image, b: Image) -> list[Check]:
    """What every image has, whatever its format."""
    same_frames = a.leading == b.leading
    same_steps = not spacing_differences(a, b)
    return [
        check_same("pixel type", type_in_file(a).name, type_in_file(b).name),
        check_same("axes", a.axes, b.axes),
        check_same("shape", _shape_text(a), _shape_text(b)),
        Check("frames", _frames_text(a), _frames_text(b), same_frames),
        Check("pixel size", spacing_text(a.spacing), spacing_text(b.spacing), same_steps),
        check_same("channel names", _names_text(a), _names_text(b)),
        check_same("bit depth", _depth_text(a), _depth_text(b)),
    ]


def _shape_text(image: Image) -> str:
    return " x ".join(map(str, image.shape))


def _frames_text(image: Image) -> str:
    return str(math.prod(image.leading))


def _names_text(image: Image) -> str:
    return ", ".join(image.channel_names)


def _depth_text(image: Image) -> str:
    return str(image.bit_depth or "not stated")
