"""Why IDDP sharpens what its start shows and kills what it hides (docs/methods/iddp.md).

It follows the map of the share of a detail that survives: a detail of amplitude a in a transform
that concentrates it, noise sigma per coefficient. F keeps a share s of the detail; the sign mask
scatters the rest over all frequencies; the best denoiser of y2 keeps g(s) = s^2 a^2 / (s^2 a^2 +
c^2 sigma^2).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from pairfree.methods.iddp import renoise, sign_mask
from pairfree.methods.iddp_short import leverage

RATIOS = [(1.0, 3.0), (1.0, 10.0), (0.5, 3.0), (0.5, 1.2)]  # c, a / sigma


def share_after(s: float, c: float, ratio: float) -> float:
    return s**2 * ratio**2 / (s**2 * ratio**2 + c**2)


def fixed_points(c: float, ratio: float) -> tuple[float, float]:
    root = (1 - 4 * c**2 / ratio**2) ** 0.5
    return (1 - root) / 2, (1 + root) / 2


@pytest.mark.parametrize(("c", "ratio"), RATIOS)
def test_upper_fixed_point_is_stable_and_lower_one_is_not(c, ratio):
    lower, upper = fixed_points(c, ratio)
    for point in (lower, upper):
        assert share_after(point, c, ratio) == pytest.approx(point, rel=1e-12)
    slopes = [
        (share_after(p + 1e-6, c, ratio) - share_after(p - 1e-6, c, ratio)) / 2e-6
        for p in (lower, upper)
    ]
    assert slopes[0] > 1 > slopes[1] > 0
    ends = []
    for s in (0.98 * lower, 1.02 * lower, 1.0):
        for _ in range(500):
            s = share_after(s, c, ratio)
        ends.append(s)
    np.testing.assert_allclose(ends, [0.0, upper, upper], atol=1e-6)


def test_a_detail_weaker_than_twice_the_noise_dies_from_any_start():
    """No fixed point but 0 when a < 2 c sigma; a smaller c lets weaker details live."""
    s = 1.0
    for _ in range(500):
        s = share_after(s, 1.0, 1.9)
    assert s < 1e-6
    assert fixed_points(0.5, 1.9)[1] > 0.9


def measured_gain(s: float, c: float, amplitude: float, side: int = 48, draws: int = 300) -> float:
    """The best linear gain E[target y2] / E[y2^2] of the coefficient that carries the detail.

    By simulation, with sigma = 1.
    """
    spectrum = np.zeros((side, side))
    spectrum[3, 5] = 1.0
    wave = torch.from_numpy(idctn(spectrum, norm="ortho"))
    y = amplitude * wave + torch.from_numpy(
        np.random.default_rng(0).normal(0, 1, (draws, 1, side, side))
    )
    detail = (y * wave).sum((2, 3), keepdim=True)
    denoised = s * detail * wave  # keeps the share s of the detail and nothing else
    y2 = renoise(y, denoised, sign_mask(y, torch.Generator().manual_seed(1)), c)
    seen = (y2 * wave).sum((2, 3), keepdim=True)
    return float((s * detail * seen).mean() / (seen**2).mean())


@pytest.mark.parametrize("c", [1.0, 0.5])
@pytest.mark.parametrize("s", [0.1, 0.3, 0.6, 0.95])
def test_simulated_wiener_gain_follows_the_map(s, c):
    """One cosine of amplitude 8 sigma in white noise, re-noised by the package's own sign mask.

    The coefficient carries a^2 + sigma^2 of power, of which the detail is all but 1.5 %.
    """
    assert measured_gain(s, c, 8.0) == pytest.approx(
        share_after(s, c, 8.0), rel=0.12 if s < 0.2 else 0.05
    )


@pytest.mark.parametrize("s", [0.1, 0.4, 0.6, 0.9])
def test_without_structure_shares_under_one_half_die_and_over_it_grow(s):
    """Pixel by pixel nothing is concentrated: the best gain is s^2 / (1 - 2 s + 2 s^2).

    Its fixed points are 0, 1/2 and 1.
    """
    y = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (20, 1, 100, 100)))
    y2 = renoise(y, s * y, sign_mask(y, torch.Generator().manual_seed(1)))
    gain = float((s * y * y2).mean() / (y2**2).mean())
    assert gain == pytest.approx(s**2 / (1 - 2 * s + 2 * s**2), rel=0.05 if s < 0.2 else 0.02)
    assert gain < s if s < 0.5 else gain > s


def wiener(y: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """The best linear denoiser of noise of variance 1 over a signal of spectrum ``power``."""
    return torch.fft.ifft2(torch.fft.fft2(y) * (power / (power + 1.0))).real


def test_the_residual_is_weaker_than_the_noise_and_the_leverage_tells_by_how_much():
    """Of a Wiener filter's residual: variance sigma^2 (1 - h).

    Divided by sqrt(1 - h), as residuals are studentised, it has sigma again.
    """
    rng, side = torch.Generator().manual_seed(0), 128
    row = torch.fft.fftfreq(side, dtype=torch.float64)
    power = 0.05 / (row[:, None] ** 2 + row**2 + 1e-3)
    signal = torch.fft.ifft2(
        torch.fft.fft2(torch.randn(8, 1, side, side, generator=rng, dtype=torch.float64))
        * power.sqrt()
    ).real
    y = signal + torch.randn(8, 1, side, side, generator=rng, dtype=torch.float64)
    denoised = wiener(y, power)
    probe = 0.25 * sign_mask(y, rng)
    h = leverage(denoised, wiener(y + probe, power), probe)
    exact = (power / (power + 1.0)).mean()
    assert exact > 0.2  # else there is nothing to correct
    torch.testing.assert_close(h.mean(), exact, rtol=0.02, atol=0.0)
    noise = renoise(y, denoised, sign_mask(y, rng), (1 - h) ** -0.5) - denoised
    assert (y - denoised).var().item() == pytest.approx(1 - exact.item(), rel=0.02)
    assert noise.var().item() == pytest.approx(1.0, rel=0.02)
