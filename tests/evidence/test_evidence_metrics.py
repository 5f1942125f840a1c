"""Scores agree with scikit-image and with their definition, over a table of cases.

The definition is the one that acceptance uses.
"""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pairfree.errors import InputError
from pairfree.evidence.metrics import fit_gain_offset, luma, nrmse, psnr, score, ssim

CASES = [
    ((64, 48), 255.0, 0.0),
    ((33, 21, 3), 255.0, 0.0),
    ((7, 9), 1.0, 0.0),
    ((11, 11), 65535.0, 0.0),
    ((40, 40), 400.0, -160.0),
    ((5, 30, 24), 255.0, 0.0),
]


def pair(
    shape: tuple[int, ...], data_range: float, low: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Random clean and denoised arrays that leave the range on both sides."""
    rng = np.random.default_rng(seed)
    clean = low + data_range * rng.uniform(-0.1, 1.1, shape)
    return clean, clean + 0.1 * data_range * rng.standard_normal(shape)


def reference(
    x: np.ndarray,
    y: np.ndarray,
    data_range: float,
    low: float,
    clip: bool,
    fit: bool,
    as_luma: bool,
) -> np.ndarray:
    """PSNR and SSIM written out again, plane by plane."""
    if fit:
        gain, offset = np.polyfit(y.ravel(), x.ravel(), 1)
        y = gain * y + offset
    single = x.ndim == 2 or x.shape[-1] == 3
    rows = []
    for u, v in [(x, y)] if single else zip(x, y):
        if as_luma and u.ndim == 3:
            u, v = u @ [0.299, 0.587, 0.114], v @ [0.299, 0.587, 0.114]
        u, v = u - low, v - low
        if clip:
            u, v = np.clip(u, 0, data_range), np.clip(v, 0, data_range)
        side = min(u.shape[:2])
        window = (
            {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            if side >= 11
            else {"win_size": max(3, (side - 1) // 2 * 2 + 1)}
        )
        axis = -1 if u.ndim == 3 else None
        db = 10 * np.log10(data_range**2 / max(np.mean((u - v) ** 2), 1e-12))
        rows.append(
            (db, structural_similarity(u, v, data_range=data_range, channel_axis=axis, **window))
        )
    return np.mean(rows, axis=0)


@pytest.mark.parametrize(("shape", "data_range", "low"), CASES)
@pytest.mark.parametrize(
    ("clip", "fit", "as_luma"),
    [(True, False, False), (False, False, False), (True, True, False), (True, False, True)],
)
def test_scores_equal_the_written_out_definition(
    shape: tuple[int, ...], data_range: float, low: float, clip: bool, fit: bool, as_luma: bool
) -> None:
    x, y = pair(shape, data_range, low)
    got = score(x, y, data_range, low=low, clip=clip, fit=fit, luma=as_luma)
    assert (got.psnr_db, got.ssim) == pytest.approx(
        tuple(reference(x, y, data_range, low, clip, fit, as_luma)), abs=1e-6
    )


def test_psnr_equals_scikit_image_and_is_finite_for_equal_images() -> None:
    x, y = pair((32, 32), 255.0, 0.0)
    assert psnr(x, y, 255, clip=False) == pytest.approx(
        peak_signal_noise_ratio(x, y, data_range=255), abs=1e-9
    )
    assert psnr(x, x, 255) == pytest.approx(10 * np.log10(255**2 / 1e-12))
    assert ssim(x, x, 255) == pytest.approx(1)


def test_noise_of_known_variance_has_the_psnr_of_its_variance() -> None:
    noise = np.random.default_rng(1).normal(0, 25, (512, 512))
    assert psnr(np.full((512, 512), 128.0), 128 + noise, 255, clip=False) == pytest.approx(
        20 * np.log10(255 / 25), abs=0.05
    )


def test_nrmse_ignores_an_offset_of_the_scale_and_is_one_for_uniform_grey() -> None:
    x, y = pair((40, 40), 255.0, 0.0)
    assert nrmse(x + 1000, y + 1000, 255, clip=False) == pytest.approx(nrmse(x, y, 255, clip=False))
    assert nrmse(x, np.full_like(x, x.mean()), 255, clip=False) == pytest.approx(1)
    flat = np.ones((8, 8))
    assert nrmse(flat, flat, 255) == 0
    assert nrmse(flat, flat + 1, 255) == float("inf")


def test_fit_recovers_gain_and_offset() -> None:
    x, _ = pair((20, 20), 255.0, 0.0)
    assert fit_gain_offset(x, (x - 7) / 3) == pytest.approx((3, 7))
    assert fit_gain_offset(x, np.zeros_like(x)) == pytest.approx((0, x.mean()))


def test_luma_of_grey_is_grey() -> None:
    grey = np.random.default_rng(2).uniform(0, 255, (6, 5))
    assert np.allclose(luma(np.stack([grey] * 3, axis=-1)), grey)
    with pytest.raises(InputError, match="colour image"):
        luma(grey)


@pytest.mark.parametrize(
    ("clean", "denoised", "data_range", "message"),
    [
        (np.zeros((8, 8)), np.zeros((8, 9)), 255, "differ in shape"),
        (np.zeros((8, 8)), np.full((8, 8), np.nan), 255, "64 of 64 pixels"),
        (np.zeros((8, 8)), np.zeros((8, 8)), 0, "data_range"),
        (np.zeros((8, 8)), np.zeros((8, 8)), float("nan"), "data_range"),
        (np.zeros((2, 9)), np.zeros((2, 9)), 255, "at least 3 pixels"),
        (np.zeros((0, 9)), np.zeros((0, 9)), 255, "empty"),
        (np.zeros(9), np.zeros(9), 255, "two or more axes"),
    ],
)
def test_unusable_input_is_refused_in_one_line(
    clean: np.ndarray, denoised: np.ndarray, data_range: float, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        score(clean, denoised, data_range)
    assert "\n" not in str(caught.value)
