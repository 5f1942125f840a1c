"""Every loss equals its equation, written again here with plain loops, and differentiates correctly.

All in float64.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pairfree.errors import ConfigError
from pairfree.methods.iddp import blur, iddp_loss, renoise, sign_mask
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.n2v import masked_loss
from pairfree.methods.nb2nb import NEIGHBOURS, draw_neighbours, neighbor_loss, subsample
from pairfree.methods.parts.masked_pixels import replace_by_neighbours, stratified_mask

RTOL = 1e-10
SHAPES = [(1, 1, 2, 2), (2, 1, 4, 6), (3, 3, 6, 4), (1, 2, 8, 8)]


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1.5, shape))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(shape):
    return itertools.product(*(range(n) for n in shape))


def mean_square(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for at in pixels(a.shape):
        total += (a[at] - b[at]) ** 2
    return total / a.size


@pytest.mark.parametrize("shape", SHAPES)
def test_supervised_loss_is_the_mean_squared_error(shape):
    f, t = some(*shape), some(*shape, seed=1)
    np.testing.assert_allclose(
        supervised_loss(f, t).item(), mean_square(f.numpy(), t.numpy()), rtol=RTOL
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_neighbor_loss_is_equation_7(shape, gamma):
    f1, g2, full1, full2 = (some(*shape, seed=s).numpy() for s in range(4))
    expected = mean_square(f1, g2)
    for at in pixels(shape):
        expected += gamma * (f1[at] - g2[at] - (full1[at] - full2[at])) ** 2 / f1.size
    tensors = [torch.from_numpy(a) for a in (f1, g2, full1, full2)]
    np.testing.assert_allclose(
        neighbor_loss(tensors[0], tensors[1], gamma, *tensors[2:]).item(), expected, rtol=RTOL
    )
    if gamma == 0:
        np.testing.assert_allclose(
            neighbor_loss(tensors[0], tensors[1]).item(), expected, rtol=RTOL
        )


def test_neighbor_loss_with_gamma_refuses_to_guess_the_full_image():
    with pytest.raises(ConfigError, match="both sub-samplings"):
        neighbor_loss(some(1, 1, 2, 2), some(1, 1, 2, 2), 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_loss_counts_masked_pixels_only(shape):
    f, y = some(*shape).numpy(), some(*shape, seed=1).numpy()
    mask = np.random.default_rng(2).random((shape[0], 1, *shape[2:])) < 0.4
    mask[0, 0, 0, 0] = True
    total = sum(
        (f[b, c, i, j] - y[b, c, i, j]) ** 2 for b, c, i, j in pixels(shape) if mask[b, 0, i, j]
    )
    found = masked_loss(torch.from_numpy(f), torch.from_numpy(y), torch.from_numpy(mask))
    np.testing.assert_allclose(found.item(), total / (shape[1] * mask.sum()), rtol=RTOL)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.001, 1.0), (0.0, 1.0), (1.0, 0.0), (0.3, 0.7)])
def test_iddp_loss_is_equation_11(shape, alpha, beta):
    f, blurred, f2, prior = (some(*shape, seed=s).numpy() for s in range(4))
    expected = alpha * mean_square(f, blurred) + beta * mean_square(f2, prior)
    found = iddp_loss(*(torch.from_numpy(a) for a in (f, blurred, f2, prior)), alpha, beta)
    np.testing.assert_allclose(found.item(), expected, rtol=RTOL)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 0.5, "per image"])
def test_renoise_is_equation_8(shape, scale):
    y, f = some(*shape).numpy(), some(*shape, seed=1).numpy()
    mask = sign_mask(torch.from_numpy(y), rng()).numpy()
    scales = np.full(shape[0], scale) if scale != "per image" else np.linspace(0.2, 1.0, shape[0])
    expected = np.empty(shape)
    for at in pixels(shape):
        expected[at] = f[at] + scales[at[0]] * mask[at] * (y[at] - f[at])
    given = scale if scale != "per image" else torch.from_numpy(scales).view(-1, 1, 1, 1)
    found = renoise(*(torch.from_numpy(a) for a in (y, f, mask)), given)
    np.testing.assert_allclose(found.numpy(), expected, rtol=RTOL)


@pytest.mark.parametrize("kernel_px", [1, 3, 5, 7])
def test_blur_is_the_mean_of_the_window_with_mirrored_borders(kernel_px):
    y = some(2, 3, 9, 8).numpy()
    reach, expected = kernel_px // 2, np.zeros(y.shape)

    def mirrored(i: int, size: int) -> int:
        i = -i if i < 0 else i
        return 2 * (size - 1) - i if i >= size else i

    for b, c, i, j in pixels(y.shape):
        for di, dj in itertools.product(range(-reach, reach + 1), repeat=2):
            expected[b, c, i, j] += y[b, c, mirrored(i + di, 9), mirrored(j + dj, 8)] / kernel_px**2
    np.testing.assert_allclose(
        blur(torch.from_numpy(y), kernel_px).numpy(), expected, rtol=RTOL, atol=1e-14
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sign_mask_is_a_fair_independent_coin(dtype):
    """+1 and -1 with probability 1/2, uncorrelated between neighbours and channels.

    A function of the generator alone.
    """
    like = torch.zeros(4, 2, 50, 50, dtype=dtype)
    mask = sign_mask(like, rng(1))
    assert (mask.dtype, mask.shape) == (like.dtype, like.shape)
    assert set(mask.unique().tolist()) == {-1.0, 1.0}
    for product in (
        mask,
        mask[..., 1:] * mask[..., :-1],
        mask[..., 1:, :] * mask[..., :-1, :],
        mask[:, :1] * mask[:, 1:],
    ):
        assert abs(product.mean().item()) < 5 / product.numel() ** 0.5
    assert torch.equal(mask, sign_mask(like, rng(1)))
    assert not torch.equal(mask, sign_mask(like, rng(2)))


@pytest.mark.parametrize("shape", SHAPES)
def test_subsample_takes_the_named_pixel_of_each_block(shape):
    y = some(*shape)
    cell = torch.randint(4, (shape[0], 1, 1, shape[2] // 2, shape[3] // 2), generator=rng(3))
    expected = np.empty((*shape[:2], shape[2] // 2, shape[3] // 2))
    for b, c, i, j in pixels(expected.shape):
        k = int(cell[b, 0, 0, i, j])
        expected[b, c, i, j] = y[b, c, 2 * i + k // 2, 2 * j + k % 2]
    np.testing.assert_array_equal(subsample(y, cell).numpy(), expected)


def test_neighbours_are_the_eight_ordered_adjacent_pairs():
    adjacent = {
        (a, b) for a in range(4) for b in range(4) if abs(a // 2 - b // 2) + abs(a % 2 - b % 2) == 1
    }
    assert {tuple(pair) for pair in NEIGHBOURS.tolist()} == adjacent
    assert len(NEIGHBOURS) == len(adjacent) == 8


def test_draw_neighbours_makes_each_pair_equally_likely():
    first, second = draw_neighbours(torch.Size((4, 3, 80, 80)), rng(), torch.device("cpu"))
    assert first.shape == second.shape == (4, 1, 1, 40, 40)
    counts = np.bincount((first * 4 + second).flatten().numpy(), minlength=16)
    drawn = counts[counts > 0]
    assert len(drawn) == 8
    assert (abs(drawn - 800) < 5 * 800**0.5).all()


@pytest.mark.parametrize(("spacing_px", "height", "width"), [(2, 4, 8), (4, 8, 16), (8, 16, 8)])
def test_stratified_mask_has_one_pixel_in_every_cell(spacing_px, height, width):
    mask = stratified_mask(
        torch.Size((3, 2, height, width)), spacing_px, rng(), torch.device("cpu")
    )
    assert (mask.shape, mask.dtype) == ((3, 1, height, width), torch.bool)
    for b, i, j in itertools.product(
        range(3), range(0, height, spacing_px), range(0, width, spacing_px)
    ):
        assert mask[b, 0, i : i + spacing_px, j : j + spacing_px].sum() == 1


def test_stratified_mask_places_are_equally_likely():
    mask = stratified_mask(torch.Size((4, 1, 160, 160)), 4, rng(), torch.device("cpu"))
    counts = mask.view(4, 40, 4, 40, 4).sum((0, 1, 3)).double()
    assert ((counts - 400).abs() < 5 * 20).all()


def replaced_by_loops(
    y: np.ndarray, mask: np.ndarray, radius: int, generator: torch.Generator
) -> np.ndarray:
    """The same draws, one pixel at a time."""
    batch, _, height, width = y.shape
    side = 2 * radius + 1
    offsets = [
        (dy, dx)
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
        if (dy, dx) != (0, 0)
    ]
    draws = torch.randint(side * side - 1, (batch, height, width), generator=generator).numpy()
    out = y.copy()
    for b, i, j in pixels((batch, height, width)):
        if not mask[b, 0, i, j]:
            continue
        dy, dx = offsets[draws[b, i, j]]
        row, column = abs(i + dy), abs(j + dx)
        row = row if row < height else 2 * (height - 1) - row
        column = column if column < width else 2 * (width - 1) - column
        if mask[b, 0, row, column]:
            column += 1 if column + 1 < width and not mask[b, 0, row, column + 1] else -1
        out[b, :, i, j] = y[b, :, row, column]
    return out


@pytest.mark.parametrize(("spacing_px", "radius_px"), [(2, 1), (4, 2), (8, 5)])
def test_replace_by_neighbours_follows_its_docstring(spacing_px, radius_px):
    y = some(2, 3, 16, 8)
    mask = stratified_mask(y.shape, spacing_px, rng(1), y.device)
    found = replace_by_neighbours(y, mask, radius_px, rng(2))
    np.testing.assert_array_equal(
        found.numpy(), replaced_by_loops(y.numpy(), mask.numpy(), radius_px, rng(2))
    )


@pytest.mark.parametrize(("spacing_px", "radius_px"), [(2, 1), (2, 5), (4, 3), (8, 7)])
def test_no_masked_value_reaches_the_network(spacing_px, radius_px):
    """Every pixel has its own value here, so a leak would be seen.

    It would be at the borders, too, where the draw is mirrored back.
    """
    y = torch.arange(4 * 2 * 16 * 16, dtype=torch.float64).view(4, 2, 16, 16)
    for seed in range(20):
        mask = stratified_mask(y.shape, spacing_px, rng(seed), y.device)
        found = replace_by_neighbours(y, mask, radius_px, rng(100 + seed))
        hidden = y[mask.expand_as(y)]
        assert not torch.isin(found, hidden).any()
        assert torch.equal(found[~mask.expand_as(y)], y[~mask.expand_as(y)])
        assert torch.equal(found[:, 1] - found[:, 0], y[:, 1] - y[:, 0])  # channels move together


def test_replacement_offsets_are_equally_likely():
    """A single masked pixel far from the border: each of the 24 others within radius 2 is drawn as often."""
    y = torch.arange(49.0).view(1, 1, 7, 7).expand(4800, -1, -1, -1)
    mask = torch.zeros(4800, 1, 7, 7, dtype=torch.bool)
    mask[..., 3, 3] = True
    drawn = replace_by_neighbours(y, mask, 2, rng())[:, 0, 3, 3].long()
    counts = np.bincount(drawn.numpy(), minlength=49).reshape(7, 7)
    window = np.zeros((7, 7), bool)
    window[1:6, 1:6] = True
    window[3, 3] = False
    assert (counts[~window] == 0).all()
    assert (abs(counts[window] - 200) < 5 * 200**0.5).all()


SMALL = (2, 2, 4, 4)
MASK = stratified_mask(torch.Size(SMALL), 2, rng(5), torch.device("cpu"))
SIGNS = sign_mask(some(*SMALL), rng(6))
CELL = torch.randint(4, (2, 1, 1, 2, 2), generator=rng(7))
GRADCHECKS = {
    "supervised": (supervised_loss, 2),
    "neighbor": (neighbor_loss, 2),
    "neighbor with gamma": (lambda a, b, c, d: neighbor_loss(a, b, 0.7, c, d), 4),
    "masked": (lambda a, b: masked_loss(a, b, MASK), 2),
    "iddp": (lambda a, b, c, d: iddp_loss(a, b, c, d, 0.3, 0.7), 4),
    "renoise": (lambda a, b: renoise(a, b, SIGNS, 0.8), 2),
    "blur": (lambda a: blur(a, 3), 1),
    "subsample": (lambda a: subsample(a, CELL), 1),
    "replace": (lambda a: replace_by_neighbours(a, MASK, 1, rng(8)), 1),
}


@pytest.mark.parametrize("name", GRADCHECKS)
def test_gradients_match_finite_differences(name):
    function, count = GRADCHECKS[name]
    assert torch.autograd.gradcheck(
        function, [some(*SMALL, seed=s).requires_grad_() for s in range(count)]
    )
