"""What was asked of denoising: one dataclass.

Its fields are options of ``pairfree denoise`` and arguments of ``pairfree.denoise``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pairfree.config import option, parse_bytes

if TYPE_CHECKING:
    from pairfree.engine.model import Model


@dataclass(frozen=True)
class DenoisingOrder:
    """What was asked of denoising: nothing is read yet.

    Words between single backticks are names of fields, which the command line spells as its flags.
    """

    run: str | Path | Model = option(None, Path, argument=True, required=True)
    """Run folder; or shipped, the network that comes with pairfree and needs no run.

    From Python also a Model, which keeps the tiles, device, symmetries and treatment of missing pixels
    that it has.
    """

    inputs: Sequence[str | Path] | str | Path = option(
        None, list[str], argument=True, required=True
    )
    """Files, folders or globs."""

    out: str | Path = option(None, Path, required=True)
    """Folder for the denoised files: same relative path, stem, format and metadata.

    For OME-Zarr also on a server, such as s3://bucket/folder.
    """

    max_bytes: float = option(2e9, str, flag="--max-memory", read=parse_bytes)
    """Bound for the memory of this process, such as 2GB, the default.

    From Python a number of bytes.
    """

    device: str = option("auto", str)
    """auto, cpu or cuda."""

    overwrite: bool = option(False, bool)
    """Replace existing outputs."""

    skip_done: bool = option(False, bool)
    """Leave existing outputs as they are, do the rest."""

    skip_bad: bool = option(False, bool)
    """Leave out files that cannot be denoised, and name them at the end; the exit code is then 1."""

    scene: int | str | None = option(None, str)
    """Of files that hold several images (CZI, LIF, ND2, EMD, TIFF, OME-Zarr): number of one, from 0, or all.

    Without it the first is denoised.
    """

    nan: str = option("error", str)
    """Pixels that are NaN or Inf: error (default), or mask, which leaves them in results."""

    disagreement: str | Path | None = option(None, Path)
    """Folder for maps of where the two denoisers differ (iscl).

    They are |F(x) - (x - H(x))| in intensity units, float32 TIFF.
    """

    symmetries: bool = option(False, bool)
    """Mean over the 8 symmetries of the square: about 0.1 dB better, eight times as long."""

    correct: bool = option(False, bool)
    """Examine the run on these files first, and mend what gains most: detail, noise left, or brightness.

    It is done only where all files that are looked at gain. It is said, and stands in the report, and in the
    metadata of DICOM and OME-Zarr.
    """

    report: bool = option(False, bool)
    """Write report.html beside the results: images before and after, what was taken off, evidence."""

    scheduler: str | None = option(None, str)
    """Work on a Dask cluster: an address such as tcp://host:8786, or local:N for N processes here."""
