"""What was asked of an evaluation: one dataclass.

Its fields are options of ``pairfree evaluate`` and arguments of ``pairfree.evaluate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairfree.config import option
from pairfree.errors import ConfigError


@dataclass(frozen=True)
class EvaluationOrder:
    """What was asked of an evaluation: nothing is read yet.

    Words between single backticks are names of fields, which the command line spells as its flags.
    """

    denoised: str | Path | None = option(None, Path)
    """Folder of denoised files."""

    clean: str | Path | None = option(None, Path)
    """Folder of clean files of the same names: scores."""

    data_range: float | None = option(None, float)
    """White minus black, 255 for 8 bits, 400 for [-160, 240] HU; needed with `clean`."""

    noisy: str | Path | None = option(None, Path)
    """Folder of the noisy files of the same names: evidence without ground truth."""

    run: Any = option(None, str)
    """Run that denoised them, or shipped: it is examined on the noisy files, which tells more.

    From Python also a Model, or a function of an array (C, H, W) of intensities.
    """

    quick: bool = option(False, bool)
    """Leave out noise alone and planted spots of the examination."""

    low: float = option(0.0, float)
    """Black, in intensity units: -160 for [-160, 240] HU. Scores clip both sides to it."""

    fit: bool = option(False, bool)
    """Fit gain and offset of each denoised image first: for methods whose grey scale is free."""

    luma: bool = option(False, bool)
    """Score the Y channel (BT.601) of RGB images, instead of the mean over the channels."""

    def __post_init__(self) -> None:
        if self.quick and self.run is None:
            raise ConfigError("`quick` is of the examination: give `run`, too")
        if self.run is not None and self.noisy is None:
            raise ConfigError("`run` needs `noisy`: the denoiser is examined on noisy files")
        if self.denoised is None and (self.run is None or self.clean is not None):
            raise ConfigError("evaluate needs `denoised`, the folder of denoised files, or `run`")
        if self.clean is None and self.noisy is None:
            raise ConfigError(
                "evaluate needs `clean` (scores) or `noisy` (evidence without ground truth), or both"
            )
        if self.clean is not None and self.data_range is None:
            raise ConfigError(
                "`clean` needs `data_range`: PSNR and SSIM mean nothing without it (255 for 8-bit files)"
            )
