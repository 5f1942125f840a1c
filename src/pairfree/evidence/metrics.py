"""Scores against a clean image: PSNR, SSIM, NRMSE, with nothing assumed about the data range.

Every function takes a 2-D image or an (H, W, 3) one in the units of the file, and needs ``data_range`` in the
same units: 255 for 8-bit files, 65535 for 16-bit ones, the width of the window in HU for CT. A range guessed
from the pixels would make two scores incomparable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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

    Parameters
    ----------
    clean, denoised
        x and y, (H, W) or (H, W, 3), units of data_range.
    data_range
        R: the distance of black from white, never guessed.
    clip
        Both images to [0, R] before, as for files that cannot hold other values.

    Notes
    -----
    10 log10(R^2 / mean (x - y)^2), the mean over all pixels and channels.

    References
    ----------
    The usual definition; equal to skimage.metrics.peak_signal_noise_ratio but finite for equal images.
    """
    x, y = _check_pair(clean, denoised, data_range, clip)
    mse = max(float(np.mean((x - y) ** 2)), MSE_FLOOR)
    return float(10 * np.log10(data_range**2 / mse))


def ssim(clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool = True) -> float:
    """Structural similarity, from -1 to 1, without unit.

    Parameters
    ----------
    clean, denoised
        (H, W) or (H, W, 3), units of data_range; sides of at least 3 px.
    data_range
        The distance of black from white.
    clip
        Both images to [0, data_range] before.

    Notes
    -----
    Window: Gaussian of 1.5 px, population covariance, K1 = 0.01, K2 = 0.03; the channels of a colour image
    are averaged.

    Tiny images, a side under 11 px: a uniform window of about half the side (at least 3 px) and sample
    covariance.

    References
    ----------
    Wang et al., IEEE TIP 2004, with the window of the paper.
    """
    x, y = _check_pair(clean, denoised, data_range, clip)
    height, width = x.shape[:2]
    side = min(height, width)
    if side < 3:
        raise InputError(
            f"SSIM needs at least 3 pixels a side, got an image of {height} x {width}: leave it out or score "
            "PSNR alone"
        )
    given: dict[str, Any] = {"data_range": data_range}
    if x.ndim == 3:
        given["channel_axis"] = -1
    if side >= SSIM_SIDE_PX:
        given["gaussian_weights"] = True
        given["sigma"] = SSIM_SIGMA_PX
        given["use_sample_covariance"] = False
    else:
        half_and_odd = (side - 1) // 2 * 2 + 1
        given["win_size"] = max(3, half_and_odd)
    similarity: Callable[..., float] = structural_similarity
    return float(similarity(x, y, **given))


def nrmse(clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool = True) -> float:
    """Root mean square error over the standard deviation of the clean image, without unit.

    Parameters
    ----------
    clean, denoised
        (H, W) or (H, W, 3), units of data_range.
    data_range
        The distance of black from white; serves nothing but the clipping here.
    clip
        Both images to [0, data_range] before.

    Returns
    -------
    float
        Of a flat clean image 0 where the images are equal, infinity otherwise.

    Notes
    -----
    The deviation, not the norm: an offset of the detector or of the HU scale must not flatter the score.
    """
    x, y = _check_pair(clean, denoised, data_range, clip)
    error = float(np.sqrt(np.mean((x - y) ** 2)))
    contrast = float(np.std(x))
    if contrast == 0:
        return 0.0 if error == 0 else float("inf")
    return error / contrast


def luma(rgb: ArrayLike) -> FloatArray:
    """Luma of an (H, W, 3) image, in its units: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, full swing)."""
    a = np.asarray(rgb, dtype=np.float64)
    if a.ndim != 3 or a.shape[-1] != 3:
        raise InputError(f"luma needs an (H, W, 3) colour image, got an array of shape {a.shape}")
    return np.asarray(a @ np.array(BT601))


def fit_gain_offset(clean: ArrayLike, denoised: ArrayLike) -> tuple[float, float]:
    """Gain and offset that bring ``gain * denoised + offset`` closest to ``clean`` in least squares.

    For outputs whose grey scale is free, as after unpaired training. A score after this fit says so: it is
    kinder. A flat denoised image has gain 0.
    """
    x, y = _check_alike(clean, denoised)
    mean_x, mean_y = x.mean(), y.mean()
    variance = np.mean((y - mean_y) ** 2)
    if variance <= np.finfo(np.float64).eps * max(1.0, mean_y**2):
        return 0.0, float(mean_x)
    gain = float(np.mean((x - mean_x) * (y - mean_y)) / variance)
    return gain, float(mean_x - gain * mean_y)


def planes(image: FloatArray) -> Iterator[FloatArray]:
    """The images that are scored one by one.

    A 2-D image, a colour image (last axis of length 3), or those of each plane of a stack.
    """
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3):
        yield image
    elif image.ndim < 2:
        raise InputError(
            f"a score needs an image of two or more axes, got an array of shape {image.shape}"
        )
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

    Parameters
    ----------
    clean, denoised
        (..., H, W) or (..., H, W, 3), units of the file.
    data_range
        Distance of black from white, in units of the file.
    low
        The value of black, subtracted first (CT abdomen window [-160, 240] HU: low -160, data_range 400).
    clip
        To [low, low + data_range], after the fit.
    fit
        First fit gain and offset of the whole denoised array (a stack has one fit), see ``fit_gain_offset``.
    luma
        Score the BT.601 luma of colour images instead of averaging over the channels.
    """
    x, y = _check_alike(clean, denoised)
    if fit:
        gain, offset = fit_gain_offset(x, y)
        y = gain * y + offset
    scores = []
    for plane_x, plane_y in zip(planes(x), planes(y)):
        one = _score_plane(plane_x - low, plane_y - low, data_range, clip, luma)
        scores.append(one)
    if not scores:
        raise InputError(f"nothing to score in an array of shape {x.shape}")
    return mean_score(scores)


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of each number over several images, at least one."""
    rows = [(one.psnr_db, one.ssim, one.nrmse) for one in scores]
    means = np.mean(rows, axis=0)
    return Score(psnr_db=float(means[0]), ssim=float(means[1]), nrmse=float(means[2]))


def _score_plane(
    x: FloatArray, y: FloatArray, data_range: float, clip: bool, as_luma: bool
) -> Score:
    if as_luma and x.ndim == 3:
        x, y = luma(x), luma(y)
    return Score(
        psnr_db=psnr(x, y, data_range, clip),
        ssim=ssim(x, y, data_range, clip),
        nrmse=nrmse(x, y, data_range, clip),
    )


def _check_pair(
    clean: ArrayLike, denoised: ArrayLike, data_range: float, clip: bool
) -> tuple[FloatArray, FloatArray]:
    """Both images as float64, clipped where asked for; InputError for what cannot be scored."""
    x, y = _check_alike(clean, denoised)
    if not (np.isfinite(data_range) and data_range > 0):
        raise InputError(
            "data_range must be a positive number in the units of the image (255 for 8-bit files), got "
            f"{data_range}"
        )
    colour = x.ndim == 3 and x.shape[-1] == 3
    if x.ndim != 2 and not colour:
        raise InputError(
            f"expected an (H, W) or (H, W, 3) image, got an array of shape {x.shape}; use score() for stacks"
        )
    if not clip:
        return x, y
    return np.clip(x, 0, data_range), np.clip(y, 0, data_range)


def _check_alike(clean: ArrayLike, denoised: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both as float64, of one shape."""
    x, y = _check_finite(clean, "clean"), _check_finite(denoised, "denoised")
    if x.shape != y.shape:
        raise InputError(
            f"clean and denoised image differ in shape: {x.shape} against {y.shape}; score only images of "
            "one size"
        )
    return x, y


def _check_finite(image: ArrayLike, name: str) -> FloatArray:
    a = np.asarray(image, dtype=np.float64)
    if a.size == 0:
        raise InputError(f"the {name} image is empty (shape {a.shape})")
    bad = int(a.size - np.count_nonzero(np.isfinite(a)))
    if bad:
        raise InputError(
            f"the {name} image has {bad} of {a.size} pixels that are NaN or infinite: replace or crop them "
            "before scoring"
        )
    return a
