"""Files become Images here, or a clear refusal; Images become whole files, or nothing.

``open_image`` maps every exception of the decoders to InputError.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pairfree.errors import InputError, OutputError, PairfreeError
from pairfree.files.atomic import atomic_folder, atomic_path, require_space
from pairfree.files.formats import nifti_files
from pairfree.files.formats.ome_zarr import is_zarr
from pairfree.files.formats.quiet import quiet_readers
from pairfree.files.formats.table import (
    FORMATS,
    SUFFIXES,
    Format,
    format_of,
    is_supported,
    suffix_of,
)
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT, Limits, check_scene
from pairfree.files.messages import address_of, reason, shown, size_text
from pairfree.files.servers import Upload, check_free, check_server, make_private, waiting_room


def open_image(path: str | Path, limits: Limits = DEFAULT, scene: int | None = None) -> Image:
    """Read an image of a file.

    Parameters
    ----------
    path
        Of a file, or of a folder of a format that has folders.
    limits
        What it may declare.
    scene
        Number of the image, from 0, in a file that may hold several; None for the first. Positions of a stage
        that are alike in size and type are one image of a TIFF.

    Returns
    -------
    Image
        Pixels, axes, spacing and metadata; of large formats the pixels stay in the file until asked for.

    Raises
    ------
    InputError
        And nothing else, in one line: the file, what was found, what to do.
    """
    path = Path(path)
    with _asking_server(path):
        one = format_of(path)
    with _one_line(path, one):
        if one.count is not None and scene is not None:
            image = one.read(path, limits, scene)
        else:
            check_scene(scene or 0, 1, path)
            image = one.read(path, limits)
        told = _tell_transparency(image)
        return told if scene is None else replace(told, scene=scene)


def count_scenes(path: str | Path, limits: Limits = DEFAULT) -> int:
    """Number of the images in a file; ``open_image`` reads each by its number.

    Parameters
    ----------
    path
        Of a file or a folder.
    limits
        What it may declare.

    Raises
    ------
    InputError
        As ``open_image``.
    """
    path = Path(path)
    with _asking_server(path):
        one = format_of(path)
    if one.count is None:
        return 1
    with _one_line(path, one):
        return one.count(path, limits)


@contextmanager
def _one_line(path: Path, one: Format) -> Iterator[None]:
    """Whatever goes wrong while a file is read is an InputError of one line."""
    try:
        _check_kind(path, one)
        with quiet_readers():
            yield
    except PairfreeError:
        raise
    # Decoders raise what they like on damaged files (measured: 12 classes); all of it is one answer
    # to the user.
    except Exception as error:
        raise InputError(f"{shown(path)}: {_words_for(error, one, path)}") from error


def _tell_transparency(image: Image) -> Image:
    """The image; where a sample is no intensity, a warning says that it is passed through."""
    if image.colours < image.samples:
        image.metadata.setdefault("warnings", []).append(
            f"sample {image.samples} of {image.samples} is transparency, which stays as it is"
        )
    return image


def _check_kind(path: Path, one: Format) -> None:
    """InputError for a folder where a file is read, and the other way round."""
    if address_of(path) is not None and one.folder:
        return
    if one.folder and path.is_dir():
        return
    if not one.folder and path.is_file():
        return
    found = "does not exist"
    if path.is_dir():
        found = "is a folder"
    elif path.exists():
        found = "is no regular file"
    raise InputError(f"{shown(path)}: {found}; name an image file")


def is_on_server(path: Path) -> bool:
    """Whether a Zarr is at an address; InputError where its server cannot be asked."""
    with _asking_server(path):
        return is_supported(path)


@contextmanager
def _asking_server(path: Path) -> Iterator[None]:
    """Whatever goes wrong when a server is asked what is at an address is an InputError of one line."""
    try:
        yield
    except PairfreeError:
        raise
    except Exception as error:  # each kind of server has errors of its own
        if address_of(path) is None:
            raise
        remedy = "check the address, the connection, and whether you may read it"
        if isinstance(error, ImportError | ValueError):  # the latter for what no package knows
            remedy = "pip install 'pairfree[remote]', or copy the file to a disk"
        raise InputError(
            f"{shown(path)}: its server cannot be asked ({reason(error)}); {remedy}"
        ) from error


def _words_for(error: Exception, one: Format, path: Path) -> str:
    """What went wrong when a file of a format was read, and what to do."""
    if isinstance(error, MemoryError):
        return "not enough memory to read it; close other programs, or crop or split the file"
    if isinstance(error, ImportError):
        wanted = f"'pairfree[{one.extra}]'" if one.extra else error.name
        return f"reading it needs the package {error.name}: pip install {wanted}"
    if isinstance(error, PermissionError):
        return "no permission to read it; change its permissions or copy it"
    if isinstance(error, RecursionError):
        return "its metadata are nested too deeply; export it again"
    kind = suffix_of(path).lstrip(".") if one.extra else one.family
    return f"cannot be read as {kind.upper()} ({reason(error)}); it may be damaged, export it again"


def check_output(image: Image, path: Path) -> Format:
    """The format that an image is written in.

    Parameters
    ----------
    image
        Of any origin.
    path
        Where it is written to.

    Raises
    ------
    OutputError
        For a suffix that is not that of the image's format.
    """
    one = FORMATS.get(image.family)
    if one is None:
        raise OutputError(
            f"{shown(path)}: unknown format family {image.family!r}; "
            f"use one of {', '.join(FORMATS)}"
        )
    if address_of(path) is not None and not one.folder:
        raise OutputError(
            f"cannot write {shown(path)}: of all results only OME-Zarr is written to servers, and this is "
            f"of the format {one.family}; name a folder on a disk, and copy it from there"
        )
    allowed = (one.output_suffix,) if one.output_suffix else (*one.suffixes, *one.also)
    suffix = suffix_of(path)
    # Names of objects in archives and of images in plates are numbers, or end with .img.
    not_its_own = suffix not in SUFFIXES or suffix in nifti_files.PAIR_SUFFIXES
    bare = image.family in ("dicom", "zarr") and not_its_own
    if suffix not in allowed and not bare:
        raise OutputError(
            f"{shown(path)}: a {one.family} image is written as {' or '.join(allowed)}; "
            "change the suffix"
        )
    return one


def rehearse_output(image: Image, path: Path) -> None:
    """OutputError for what cannot be written there, found before a pixel is computed.

    Parameters
    ----------
    image
        With the shape, type and metadata of the output.
    path
        Of the output.
    """
    one = check_output(image, path)
    _refuse_other_folder(path, one)
    with suppress(OSError), _write_errors(image, path, one):  # a full folder for temporary files
        one.rehearse(image, path)


def _refuse_other_folder(path: Path, one: Format) -> None:
    """OutputError where a folder would be replaced that is no image."""
    if address_of(path) is not None:
        check_free(path, overwrite=True)
    elif one.folder and path.is_dir() and not is_zarr(path):
        raise OutputError(
            f"cannot write {shown(path)}: it is a folder that holds something else; "
            "choose another name"
        )


@contextmanager
def _write_errors(image: Image, path: Path, one: Format) -> Iterator[None]:
    """Whatever goes wrong while a file is written is an OutputError of one line; not so what disks report."""
    try:
        with quiet_readers():
            yield
    except (OSError, PairfreeError):
        raise
    except MemoryError as error:
        raise OutputError(
            f"cannot write {shown(path)}: not enough memory ({size_text(image.nbytes)} of pixels)"
        ) from error
    except Exception as error:
        raise OutputError(
            f"cannot write {shown(path)} as {one.family.upper()}: {reason(error)}; "
            "write TIFF or .npy instead"
        ) from error


def save_image(image: Image, path: str | Path, overwrite: bool = False) -> None:
    """Write an image in its family's format: the whole file or nothing.

    Parameters
    ----------
    image
        Of any origin. One that was made from an array, ``Image(pixels, "YX")``, is written in the format that
        the suffix says.
    path
        Where to; an address of a server for OME-Zarr, which is made on a disk and then sent.
    overwrite
        What is there may be replaced.

    Raises
    ------
    OutputError
        For what the format cannot hold, and what cannot be written.
    """
    if not isinstance(image, Image):
        kind = type(image).__name__
        raise InputError(
            f"{path}: expected a pairfree.Image, found {kind}; wrap an array, Image(pixels, 'YX')"
        )
    path = Path(path)
    on_server = address_of(path) is not None
    named = suffix_of(path) in SUFFIXES if on_server else is_supported(path)
    if image.family == Image.family and not image.metadata and named:
        image = replace(image, family=format_of(path).family)
    one = check_output(image, path)
    if on_server:
        return _save_on_server(image, path, overwrite)
    require_space(path.parent, image.nbytes)
    _refuse_other_folder(path, one)
    second = one.beside(path)
    make = atomic_folder if one.folder else atomic_path
    with _undone(second), ExitStack() as files:
        temporary = files.enter_context(make(path, overwrite, image.nbytes))
        beside = []
        if second is not None:  # renamed first
            beside.append(files.enter_context(atomic_path(second, overwrite, image.nbytes)))
        try:
            with _write_errors(image, path, one):
                one.write(image, temporary, *beside, **one.told(path))
        except OutputError as error:
            raise OutputError(str(error).replace(shown(temporary), shown(path))) from error


def _save_on_server(image: Image, path: Path, overwrite: bool) -> None:
    """Write a Zarr on a disk and send it; where that fails, nothing of it stays in either place."""
    above = path.parent
    check_server(above if address_of(above) is not None else path)
    check_free(path, overwrite)
    room = waiting_room()
    make_private(room)
    with tempfile.TemporaryDirectory(prefix="image-", dir=room) as folder:
        local = Path(folder, "image.zarr")
        save_image(image, local)
        upload = Upload(local, path, "save the image again")
        try:
            upload.send(overwrite)
            upload.finish()
        except BaseException:
            upload.withdraw()
            raise


@contextmanager
def _undone(second: Path | None) -> Iterator[None]:
    """Where the block fails, a second file that was not there before is gone again."""
    before = second is None or os.path.lexists(second)
    try:
        yield
    except BaseException:
        if second is not None and not before:
            with suppress(OSError):
                second.unlink()
        raise
