"""Scores against a clean image: PSNR, SSIM, NRMSE, with nothing assumed about the data range.

Every function takes a 2-D image or an (H, W, 3) one in the units of the file, and needs ``data_range`` in the
same units: 255 for 8-bit files, 65535 for 16-bit ones, the width of the window in HU for CT. A range guessed
from the pixels would make two scores incomparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from pairfree.errors import InputError

FloatArray = NDArray[np.float64]

BT601 = (0.299, 0.587, 0.114)
MSE_FLOOR = 1e-12  # squared units of the data: two equal images score a large finite PSNR
SSIM_SIGMA_PX = 1.5
SSIM_SIDE_PX = 11  # the Gaussian window of sigma 1.5 cut at 3.5 sigma


@dataclass(frozen=True)
class Score:
    """What one denoised image scores against its clean image."""

    psnr_db: float
    """Peak signal-to-noise ratio in dB; higher is better; +1 dB is 11 % less error."""
    ssim: float
    """Structural similarity, 1 for equal images."""
    nrmse: float
    """RMSE over the standard deviation of the clean image: 0 for equal images, 1 for a uniform grey at its
    mean."""


def psnr(clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool = True) -> float:
    r"""Peak signal-to-noise ratio in dB.

    Equation      10 log10(R^2 / mean (x - y)^2), the mean over all pixels and channels
    clean         x, (H, W) or (H, W, 3), units of data_range; so is denoised, y
    data_range    R: the distance of black from white, never guessed
    clip          both images to [0, R] before, as for files that cannot hold other values
    Source        the usual definition; equal to skimage.metrics.peak_signal_noise_ratio but finite for equal images
    """
    x, y = _pair(clean, denoised, data_range, clip)
    return float(10 * np.log10(data_range**2 / max(float(np.mean((x - y) ** 2)), MSE_FLOOR)))


def ssim(clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool = True) -> float:
    """Structural similarity, from -1 to 1, without unit.

    Window        Gaussian of 1.5 px, population covariance, K1 = 0.01, K2 = 0.03; the channels of a colour image are averaged
    Tiny images   a side under 11 px: a uniform window of about half the side (at least 3 px) and sample covariance
    clip          both images to [0, data_range] before
    Source        Wang et al., IEEE TIP 2004, with the window of the paper
    """
    x, y = _pair(clean, denoised, data_range, clip)
    side = min(x.shape[:2])
    if side < 3:
        raise InputError(
            f"SSIM needs at least 3 pixels a side, got an image of {x.shape[0]} x {x.shape[1]}: leave it out or score PSNR alone"
        )
    axis = -1 if x.ndim == 3 else None
    if side >= SSIM_SIDE_PX:
        value = structural_similarity(
            x,
            y,
            data_range=data_range,
            channel_axis=axis,
            gaussian_weights=True,
            sigma=SSIM_SIGMA_PX,
            use_sample_covariance=False,
        )
    else:
        value = structural_similarity(
            x, y, data_range=data_range, channel_axis=axis, win_size=max(3, (side - 1) // 2 * 2 + 1)
        )
    return float(value)


def nrmse(clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool = True) -> float:
    """Root mean square error over the standard deviation of the clean image, without unit.

    Why           the deviation, not the norm: an offset of the detector or of the HU scale must not flatter the score
    clip          both images to [0, data_range] before; data_range serves nothing else here
    Flat clean    0 where the images are equal, infinity otherwise
    """
    x, y = _pair(clean, denoised, data_range, clip)
    error, contrast = float(np.sqrt(np.mean((x - y) ** 2))), float(np.std(x))
    if contrast == 0:
        return 0.0 if error == 0 else float("inf")
    return error / contrast


def luma(rgb: ArrayLike) -> FloatArray:
    """Luma of an (H, W, 3) image by ITU-R BT.601, full swing: 0.299 R + 0.587 G + 0.114 B, in the units of
    the input.
    """
    a = np.asarray(rgb, dtype=np.float64)
    if a.ndim != 3 or a.shape[-1] != 3:
        raise InputError(f"luma needs an (H, W, 3) colour image, got an array of shape {a.shape}")
    return np.asarray(a @ np.array(BT601))


def fit_gain_offset(clean: ArrayLike, denoised: ArrayLike) -> tuple[float, float]:
    """Gain and offset that bring ``gain * denoised + offset`` closest to ``clean`` in least squares.

    For outputs whose grey scale is free, as after unpaired training. A score after this fit says so: it is
    kinder. A flat denoised image has gain 0.
    """
    x, y = _finite(clean, "clean"), _finite(denoised, "denoised")
    _same_shape(x, y)
    mean_x, mean_y = x.mean(), y.mean()
    variance = np.mean((y - mean_y) ** 2)
    if variance <= np.finfo(np.float64).eps * max(1.0, mean_y**2):
        return 0.0, float(mean_x)
    gain = float(np.mean((x - mean_x) * (y - mean_y)) / variance)
    return gain, float(mean_x - gain * mean_y)


def planes(image: FloatArray) -> Iterator[FloatArray]:
    """The images that are scored one by one: a 2-D image, a colour image (last axis of length 3), or those of
    each plane of a stack.
    """
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3):
        yield image
    elif image.ndim < 2:
        raise InputError(f"a score needs an image of two or more axes, got an array of shape {image.shape}")
    else:
        for part in image:
            yield from planes(part)


def score(
    clean: ArrayLike,
    denoised: ArrayLike,
    data_range: float,
    low: float = 0.0,
    clip: bool = True,
    fit: bool = False,
    luma: bool = False,
) -> Score:
    """PSNR, SSIM and NRMSE of an image, or their means over the planes of a stack.

    data_range    distance of black from white, in units of the file
    low           the value of black, subtracted first (CT abdomen window [-160, 240] HU: low -160, data_range 400)
    clip          to [low, low + data_range], after the fit
    fit           first fit gain and offset of the whole denoised array (a stack has one fit), see ``fit_gain_offset``
    luma          score the BT.601 luma of colour images instead of averaging over the channels
    """
    x, y = _finite(clean, "clean"), _finite(denoised, "denoised")
    _same_shape(x, y)
    if fit:
        gain, offset = fit_gain_offset(x, y)
        y = gain * y + offset
    rows = [_score_plane(u - low, v - low, data_range, clip, luma) for u, v in zip(planes(x), planes(y))]
    if not rows:
        raise InputError(f"nothing to score in an array of shape {x.shape}")
    return mean_score(rows)


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of each number over several images, at least one."""
    rows = [(one.psnr_db, one.ssim, one.nrmse) for one in scores]
    means = np.mean(rows, axis=0)
    return Score(psnr_db=float(means[0]), ssim=float(means[1]), nrmse=float(means[2]))


def _score_plane(x: FloatArray, y: FloatArray, data_range: float, clip: bool, as_luma: bool) -> Score:
    if as_luma and x.ndim == 3:
        x, y = luma(x), luma(y)
    return Score(
        psnr_db=psnr(x, y, data_range, clip),
        ssim=ssim(x, y, data_range, clip),
        nrmse=nrmse(x, y, data_range, clip),
    )


def _pair(
    clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool
) -> tuple[FloatArray, FloatArray]:
    x, y = _finite(clean, "clean"), _finite(denoised, "denoised")
    _same_shape(x, y)
    if not (np.isfinite(data_range) and data_range > 0):
        raise InputError(
            f"data_range must be a positive number in the units of the image (255 for 8-bit files), got {data_range}"
        )
    if x.ndim != 2 and not (x.ndim == 3 and x.shape[-1] == 3):
        raise InputError(
            f"expected an (H, W) or (H, W, 3) image, got an array of shape {x.shape}; use score() for stacks"
        )
    return (np.clip(x, 0, data_range), np.clip(y, 0, data_range)) if clip else (x, y)


def _finite(image: ArrayLike, name: str) -> FloatArray:
    a = np.asarray(image, dtype=np.float64)
    if a.size == 0:
        raise InputError(f"the {name} image is empty (shape {a.shape})")
    bad = int(a.size - np.count_nonzero(np.isfinite(a)))
    if bad:
        raise InputError(
            f"the {name} image has {bad} of {a.size} pixels that are NaN or infinite: replace or crop them before scoring"
        )
    return a


def _same_shape(x: FloatArray, y: FloatArray) -> None:
    if x.shape != y.shape:
        raise InputError(
            f"clean and denoised image differ in shape: {x.shape} against {y.shape}; score only images of one size"
        )
