"""The theorems behind the losses: expected values under known noise, and what the network can see.

Expected values hold within 5 standard errors.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.methods.base import At
from pairfree.methods.iddp import renoise, sign_mask
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.n2v import masked_loss
from pairfree.methods.nb2nb import draw_neighbours, neighbor_loss, neighbor_risk, subsample
from pairfree.methods.parts.masked_pixels import replace_by_neighbours, stratified_mask
from pairfree.nets import build

AT = At(0, 3, "train", 3, 10)
CPU = torch.device("cpu")


class Oracle(nn.Module):
    """f(y) = ``level`` everywhere: the perfect denoiser of a flat scene, and a blank network."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, y: Tensor) -> Tensor:
        return self.level.expand_as(y)


class Scale(nn.Module):
    """f(y) = share * y; the identity at share 1."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, y: Tensor) -> Tensor:
        return self.share * y


def noise(sigma: float, *shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, sigma, shape))


def assert_mean_square(found: float, expected: float, count: int) -> None:
    """Mean of ``count`` squared Gaussians: its standard error is sqrt(2 / count) of it."""
    assert abs(found - expected) < 5 * expected * (2 / count) ** 0.5


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_perfect_denoiser_pays_exactly_the_noise_variance_in_neighbor2neighbor(sigma, gamma, small):
    """On a flat scene with f(y) = x both terms equal var(n): E[L] = (1 + gamma) sigma^2."""
    method = small.method("nb2nb", net=Oracle(0.5))
    y = (0.5 + noise(sigma, 16, 1, 128, 128)).float()
    count = 16 * 64 * 64
    assert_mean_square(neighbor_risk(method, y, gamma, AT).item(), (1 + gamma) * sigma**2, count)


def test_doing_nothing_pays_twice_the_noise_variance_in_neighbor2neighbor(small):
    """f(y) = y: two independent pixels differ by 2 sigma^2, so the oracle is preferred.

    The consistency term is then exactly 0.
    """
    y = (0.5 + noise(0.2, 16, 1, 128, 128)).float()
    loss = neighbor_risk(small.method("nb2nb", net=Scale(1.0)), y, 0.0, AT).item()
    assert_mean_square(loss, 2 * 0.2**2, 16 * 64 * 64)
    assert neighbor_risk(small.method("nb2nb", net=Scale(1.0)), y, 1.0, AT).item() == pytest.approx(
        loss, rel=1e-6
    )


def test_correlated_noise_breaks_neighbor2neighbor():
    """The docstring's warning: with noise equal in neighbours, doing nothing costs nothing.

    The oracle pays sigma^2.
    """
    y = noise(0.2, 4, 1, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    cell1, cell2 = draw_neighbours(y.shape, torch.Generator().manual_seed(0), CPU)
    assert neighbor_loss(subsample(y, cell1), subsample(y, cell2)).item() == 0.0
    assert neighbor_loss(torch.zeros(4, 1, 32, 32), subsample(y, cell2)).item() > 0.03


def test_noise2noise_oracle_pays_the_noise_of_the_target_and_identity_twice_that():
    x = torch.linspace(0, 1, 128, dtype=torch.float64).expand(16, 1, 128, 128)
    first, second = x + noise(0.1, *x.shape, seed=1), x + noise(0.1, *x.shape, seed=2)
    assert_mean_square(supervised_loss(x, second).item(), 0.01, x.numel())
    assert_mean_square(supervised_loss(first, second).item(), 0.02, x.numel())


def test_supervised_oracle_pays_nothing_and_identity_the_noise_variance(small):
    x = torch.full((16, 1, 32, 32), 0.5)
    y = (x + noise(0.1, *x.shape)).float()
    assert small.method("n2c", net=Oracle(0.5)).step(Batch(y, x), AT)["loss"].item() == 0.0
    assert_mean_square(
        small.method("n2c", net=Scale(1.0)).step(Batch(y, x), AT)["loss"].item(), 0.01, x.numel()
    )


def test_noise2noise_and_noise2clean_have_the_same_gradient_on_average():
    """For f(y) = s y on a fixed y the gradients differ by -2 mean(y n2), whose mean is 0."""
    x = torch.linspace(0, 1, 256, dtype=torch.float64).expand(8, 1, 256, 256)
    y, second = x + noise(0.1, *x.shape, seed=1), x + noise(0.1, *x.shape, seed=2)
    share = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    to_clean, to_noisy = (
        torch.autograd.grad(supervised_loss(share * y, t), share)[0].item() for t in (x, second)
    )
    standard_error = 2 * 0.1 * (y**2).mean().sqrt().item() / x.numel() ** 0.5
    assert abs(to_clean - to_noisy) < 5 * standard_error
    assert abs(to_clean) > 50 * standard_error


def test_noise2void_oracle_pays_the_noise_variance():
    x = torch.full((16, 1, 128, 128), 0.5, dtype=torch.float64)
    y = x + noise(0.1, *x.shape)
    mask = stratified_mask(y.shape, 4, torch.Generator().manual_seed(0), CPU)
    assert_mean_square(masked_loss(x, y, mask).item(), 0.01, int(mask.sum()))


def lively(name: str, predict: str) -> nn.Module:
    """A real network with its weights away from the start, so that it looks at everything in its field."""
    torch.manual_seed(1)
    net = build(name, 1, 4, predict).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def row_of_jacobian(out: Tensor, y: Tensor, i: int, j: int) -> Tensor:
    return torch.autograd.grad(out[0, 0, i, j], y, retain_graph=True)[0][0, 0]


@pytest.mark.parametrize(
    ("name", "predict"),
    [("shuffle-unet", "residual"), ("shuffle-unet", "image"), ("unet", "image")],
)
@pytest.mark.parametrize("spacing_px", [2, 4])
def test_noise2void_is_blind_at_the_masked_pixels(name, predict, spacing_px):
    """d output[i] / d input[i] is exactly 0 at masked pixels i.

    Without the mask the same network does see itself there.
    """
    net, y = lively(name, predict), noise(1.0, 1, 1, 16, 16).requires_grad_()
    mask = stratified_mask(y.shape, spacing_px, torch.Generator().manual_seed(2), CPU)
    blind, open_eyed = (
        net(replace_by_neighbours(y, mask, 5, torch.Generator().manual_seed(3))),
        net(y),
    )
    places = torch.nonzero(mask[0, 0]).tolist()
    seen = sum(row_of_jacobian(blind, y, i, j).abs() for i, j in places)
    assert [row_of_jacobian(blind, y, i, j)[i, j].item() for i, j in places] == [0.0] * len(places)
    assert (seen[mask[0, 0]] == 0).all()  # nor do masked pixels see one another
    assert (seen[~mask[0, 0]] > 0).float().mean() > 0.9  # but the rest is seen
    assert sum(
        row_of_jacobian(open_eyed, y, i, j)[i, j].item() != 0 for i, j in places
    ) > 0.9 * len(places)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_renoised_image_has_the_denoised_one_as_mean_and_its_residual_as_spread(scale):
    """E[y2] = F(y) and |y2 - F(y)| = c |y - F(y)| at every pixel, signal-dependent noise included."""
    x = torch.linspace(0.1, 1, 32, dtype=torch.float64).expand(1, 1, 32, 32)
    y, draws = x + x * noise(0.3, *x.shape), 4000
    mask = sign_mask(x.expand(draws, -1, -1, -1), torch.Generator().manual_seed(0))
    y2 = renoise(y, x, mask, scale)
    size = scale * (y - x).abs()
    torch.testing.assert_close((y2 - x).abs(), size.expand_as(y2), rtol=1e-12, atol=1e-15)
    assert ((y2.mean(0) - x[0]).abs() <= 5.5 * size[0] / draws**0.5).all()


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    "net", [Scale(1.0), Oracle(0.4), Oracle(0.0)], ids=["identity", "grey", "black"]
)
def test_identity_and_blank_are_fixed_points_of_iddp(net, clip, small):
    """Without alpha the loss and its gradient are exactly 0 there, so a start at either never leaves it."""
    data = small.data()
    method = small.method(
        "iddp", net=net, alpha=0.0, warm_share=0.0, turnovers=0.0, leverage=0.0, clip=clip
    )
    method.prepare(data, 0)
    loss = method.risk(data.batch(0, 0, 2).noisy, AT)
    (gradient,) = torch.autograd.grad(loss, list(net.parameters()))
    assert loss.item() == 0.0
    assert gradient.item() == 0.0


def test_a_shrinking_network_is_no_fixed_point_of_iddp(small):
    """The test above can fail: f(y) = 0.7 y pays and is pushed."""
    net, data = Scale(0.7), small.data()
    method = small.method("iddp", net=net, alpha=0.0, warm_share=0.0, turnovers=0.0, leverage=0.0)
    method.prepare(data, 0)
    loss = method.risk(data.batch(0, 0, 2).noisy, AT)
    (gradient,) = torch.autograd.grad(loss, list(net.parameters()))
    assert loss.item() > 1e-4
    assert abs(gradient.item()) > 1e-4


def test_noisy_noise2noise_improves_on_its_start_where_theorem_1_says_so():
    """GAN2GAN, eq.

    (2) and Theorem 1: with y = var0 / var_x the estimator's error, in closed form and by draws, and where it
    beats var0.
    """
    rng = np.random.default_rng(0)
    var_x, var_n, draws = 4.0, 2.0, 400_000
    x, n = rng.normal(0, var_x**0.5, draws), rng.normal(0, var_n**0.5, draws)
    better = []
    for y in np.linspace(0.02, 0.98, 25):
        slope = var_x * (1 + y) / (var_x * (1 + y) + var_n)
        start = x + rng.normal(0, (y * var_x) ** 0.5, draws)
        first, second = (start + rng.normal(0, var_n**0.5, draws) for _ in range(2))
        # What Noise2Noise on such pairs learns.
        assert np.dot(first, second) / np.dot(first, first) == pytest.approx(slope, abs=0.01)
        error = (1 - slope) ** 2 * var_x + slope**2 * var_n
        assert np.mean((x - slope * (x + n)) ** 2) == pytest.approx(error, rel=0.02)
        better.append(error < y * var_x)
    first_better = better.index(True)
    assert all(better[first_better:])
    assert not any(better[:first_better])
    assert 0 < first_better < len(better) - 1
