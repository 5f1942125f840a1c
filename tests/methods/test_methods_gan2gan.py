"""GAN2GAN: equations against NumPy, the order of Algorithm 1, reuse without change.

Rounds hand on their weights.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.data.even import EVEN_LEVEL
from pairfree.data.patches import PatchPool, TrainingData, symmetric
from pairfree.errors import ConfigError, InputError
from pairfree.methods import PRESETS, build_method
from pairfree.methods.base import At
from pairfree.methods.gan2gan import (
    cycle_loss,
    g2g_loss,
    wasserstein_distance,
)
from pairfree.methods.gan2gan_short import ShortGAN2GANConfig, recorrupted_pair
from pairfree.methods.parts.estimates import Estimates
from pairfree.nets.gan2gan import NoiseGenerator, RoughDenoiser, WassersteinCritic
from pairfree.nets.start import load_start
from pairfree.training.job import resolve
from pairfree.training.order import Order

WGAN = {
    "net": "dncnn",
    "generator": "wgan",
    "start": "g2",
    "patch_px": 64,
    "noise_patch_px": 64,
    "generator_px": 64,
    "smooth_limit": 9.0,
    "batch_size": 4,
    "generative_batch": 4,
    "rough_width": 4,
    "critic_width": 4,
    "second_copy": True,
    "from_scratch": True,
    "iterations": 2,
    "even": False,
}


def tensors(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=shape)) for shape in shapes]


def made(small, **changes):
    torch.manual_seed(0)
    return build_method("gan2gan", small.config("gan2gan", **{**WGAN, **changes}), 1)


def noisy_data(patch_px=64, sigma=0.1):
    rng = np.random.default_rng(3)
    planes = [
        (0.5 + 0.1 * np.sin(np.mgrid[:120, :130][0] / 40))[None]
        + rng.normal(0, sigma, (1, 120, 130))
        for _ in range(3)
    ]
    return TrainingData(PatchPool(planes, "cpu", patch_px))


def upright(data, step):
    """Patches of a step, untransposed, as the generative model sees them."""
    return data.noisy.gather(data.noisy.draw(0, step, 4), augment=False)


@pytest.fixture
def generative(small):
    """A method with a W-GAN, prepared, and its data."""
    method, data = made(small), noisy_data()
    method.prepare(data, 0)
    return method, data


# -- equations -----------------------------------------------------------------------------------------------


def test_losses_are_the_equations():
    real, fake = tensors((5, 1), (7, 1))
    assert wasserstein_distance(real, fake).item() == pytest.approx(
        real.numpy().mean() - fake.numpy().mean(), rel=1e-10
    )
    z, again = tensors((2, 1, 6, 5), (2, 1, 6, 5))
    assert cycle_loss(z, again).item() == pytest.approx(
        np.abs(z.numpy() - again.numpy()).mean(), rel=1e-10
    )
    assert g2g_loss(z, again).item() == pytest.approx(
        ((z.numpy() - again.numpy()) ** 2).mean(), rel=1e-10
    )


@pytest.mark.parametrize("loss", [wasserstein_distance, cycle_loss, g2g_loss])
def test_gradients_are_right(loss):
    first, second = (one.requires_grad_() for one in tensors((2, 1, 4, 3), (2, 1, 4, 3)))
    assert torch.autograd.gradcheck(loss, (first, second))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_recorrupted_views_keep_the_image_and_have_uncorrelated_noise(alpha):
    x = torch.full((200_000,), 3.0, dtype=torch.float64)
    noise, again = (
        4.0
        * torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    first, second = recorrupted_pair(x + noise, again, alpha)
    error = 5 * 4.0 * max(alpha, 1 / alpha) * 2 / len(x) ** 0.5
    assert abs(first.mean() - 3) < error
    assert abs(second.mean() - 3) < error
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 5 / len(x) ** 0.5
    assert first.var() == pytest.approx(16 * (1 + alpha**2), rel=0.02)


def test_for_equal_noise_the_expected_target_is_the_clean_image_whatever_the_distribution():
    """E[Z - n | Z + n] = E[x | Z + n] where N and n may be exchanged.

    The noise has three values, far from Gaussian.
    """
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(2, (400_000,), generator=rng).double()
    values = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    noise, again = (values[torch.randint(3, x.shape, generator=rng)] for _ in range(2))
    seen, target = recorrupted_pair(x + noise, again, 1.0)
    for value in seen.unique():
        where = seen == value
        tolerance = (
            5
            * float(target[where].std(correction=0) + x[where].std(correction=0))
            / int(where.sum()) ** 0.5
            + 1e-12
        )
        assert float(target[where].mean()) == pytest.approx(float(x[where].mean()), abs=tolerance)


# -- Algorithm 1 ---------------------------------------------------------------------------------------------


def test_reuse_during_the_critic_steps_changes_nothing(generative):
    """Losses, and the critics' weights, are those of a literal loop.

    It makes noise and estimates anew for every critic step.
    """
    method, data = generative
    twin = copy.deepcopy(method)
    at, batch = At(0, 3, "generative", 3, 10), data.batch(0, 3, 4)
    logged = method.step(batch, at)

    z, r = upright(data, 3), torch.randn(4, 128, generator=at.rng("latent"))
    noise = twin.patches.gather(twin.patches.draw(0, 3, 4, "noise patches"), augment=False)
    for _ in range(5):
        fake, rough = twin.g1(r), twin.g2(z)
        objective = (
            twin.f1(noise).mean()
            - twin.f1(fake).mean()
            + twin.f2(z).mean()
            - twin.f2(rough + fake).mean()
        )
        twin.optimizers["f1, f2"].zero_grad()
        (-objective).backward()
        twin.optimizers["f1, f2"].step()
        with torch.no_grad():
            for parameter in (*twin.f1.parameters(), *twin.f2.parameters()):
                parameter.clamp_(-0.02, 0.02)
    assert logged["critics"].item() == pytest.approx(objective.item(), abs=1e-6)
    for name in ("f1", "f2"):
        for ours, literal in zip(
            method.networks[name].parameters(), twin.networks[name].parameters(), strict=True
        ):
            torch.testing.assert_close(ours, literal, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        fake, rough = twin.g1(r), twin.g2(z)
        expected = (
            -5 * twin.f1(fake).mean()
            - twin.f2(rough + fake).mean()
            + 10 * (z - twin.g3(rough)).abs().mean()
        )
    assert logged["loss"].item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)


def test_the_generators_descend_equation_8_after_the_critics(generative):
    method, data = generative
    at, batch = At(0, 0, "generative", 0, 10), data.batch(0, 0, 4)
    twin = copy.deepcopy(method)
    logged = method.step(batch, at)
    twin.f1.load_state_dict(method.f1.state_dict())
    twin.f2.load_state_dict(method.f2.state_dict())
    with torch.no_grad():
        z, fake = upright(data, 0), twin.g1(torch.randn(4, 128, generator=at.rng("latent")))
        rough = twin.g2(z)
        expected = (
            -5 * twin.f1(fake).mean()
            - twin.f2(rough + fake).mean()
            + 10 * (z - twin.g3(rough)).abs().mean()
        )
    assert logged["loss"].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-4)
    assert all(parameter.grad is None for parameter in twin.f1.parameters())
    weights = [*method.f1.parameters(), *method.f2.parameters()]
    assert max(parameter.abs().max() for parameter in weights) <= 0.02


@pytest.mark.parametrize(("changes", "idle"), [({"beta": 0.0}, "f2"), ({"gamma": 0.0}, "g3")])
def test_ablations_leave_their_network_alone(changes, idle, small):
    method, data = made(small, **changes), noisy_data()
    method.prepare(data, 0)
    before = copy.deepcopy(list(method.networks[idle].parameters()))
    method.step(data.batch(0, 0, 4), At(0, 0, "generative", 0, 10))
    after = [parameter.clamp(-0.02, 0.02) if idle == "f2" else parameter for parameter in before]
    assert all(
        torch.equal(a, b) for a, b in zip(method.networks[idle].parameters(), after, strict=True)
    )


def test_scan_lines_keep_their_direction(small):
    """Noise made of rows: what is put on a transposed patch is made of columns.

    The critics see patches as they lie in the images.
    """
    rng = np.random.default_rng(0)
    planes = [
        0.5 + rng.normal(0, 0.05, (1, 160, 160)) + rng.normal(0, 0.1, (1, 160, 1)) for _ in range(3)
    ]
    data = TrainingData(PatchPool(planes, "cpu", 32))
    method = small.method("gan2gan", batch_size=32, even=False)
    method.prepare(data, 0)
    at, batch = At(0, 0, "start", 0, 10), data.batch(0, 0, 32)
    noise = method.turn_like_batch(method.noise_like(batch.noisy, "recorruption", at), at)
    for of in (batch.noisy, noise):
        lengthwise = of.mean(3).var(2) > of.mean(2).var(2)
        assert torch.equal(lengthwise[:, 0], data.noisy.draw(0, 0, 32)[:, 3] < 4)
    wgan = made(small, generative_batch=32)
    data = TrainingData(PatchPool(planes, "cpu", 64))
    wgan.prepare(data, 0)
    for seen in (wgan.gather_upright(32, at), wgan.noise_patches(32, at)):
        assert (seen.mean(3).var(2) > seen.mean(2).var(2)).all()


def test_the_sigmoid_of_g2_spans_what_is_brighter_than_the_units_end(small):
    method, data = made(small), noisy_data()
    bright = TrainingData(PatchPool([data.noisy.plane(0).numpy() * 4.0], "cpu", 64))
    method.prepare(bright, 0)
    assert method.g2.ends.tolist() == pytest.approx(
        [0.0, float(bright.noisy.flat.quantile(0.9999))], abs=1e-4
    )
    method.prepare(
        TrainingData(PatchPool([np.clip(data.noisy.plane(0).numpy(), 0, 1)], "cpu", 64)), 0
    )
    assert method.g2.ends.tolist() == [0.0, 1.0]


# -- rounds --------------------------------------------------------------------------------------------------


def test_each_round_estimates_with_the_network_before_it(generative):
    method, data = generative
    for name in ("G2G 1", "G2G 2"):
        at, batch = At(0, 20, name, 0, 10), data.batch(0, 20, 4)
        seen = copy.deepcopy(method.net).eval()
        rough = copy.deepcopy(method.g2).eval()
        method.step(batch, at)
        source = rough if name == "G2G 1" else seen
        index = min(method.rounds.estimates.known)
        image = data.noisy.plane(index)[None]
        with torch.no_grad():
            expected = source(image) - image
        torch.testing.assert_close(
            method.rounds.estimates.changes.plane(index), expected[0], atol=1e-5, rtol=1e-4
        )


def test_the_two_noisy_copies_of_an_estimate_have_noise_of_their_own(generative, monkeypatch):
    """Eqs. (9) and (10): else the network would be asked to leave everything as it is."""
    method, data = generative
    at, batch, given = At(0, 20, "G2G 1", 0, 10), data.batch(0, 20, 4), []

    def f(x):
        given.append(x)
        return type(method).f(method, x)

    def loss(output, target):
        given.append(target)
        return g2g_loss(output, target)

    monkeypatch.setattr(method, "f", f)
    monkeypatch.setattr("pairfree.methods.gan2gan.g2g_loss", loss)
    method.step(batch, at)
    z2, z1 = given
    difference = z1 - z2
    noise = method.noise_like(batch.noisy, "first copy", at)
    assert float(difference.std()) > 0.5 * float(noise.std())


def test_the_first_round_starts_afresh_and_the_next_where_it_ended(small):
    method, data = made(small), noisy_data()
    method.prepare(data, 0)
    for parameter in method.net.parameters():
        parameter.data.add_(0.1)
    for name, fresh in (("G2G 1", True), ("G2G 2", False)):
        before = copy.deepcopy(method.net.state_dict())
        start = method.rounds.fresh.state_dict() if fresh else before
        method.optimizers["net"].param_groups[0]["lr"] = 0.0
        method.begin_round(int(name[-1]))
        assert all(torch.equal(value, start[key]) for key, value in method.net.state_dict().items())


def test_the_rough_denoiser_is_the_result_until_the_rounds_begin(generative):
    method, _ = generative
    x = torch.rand(1, 1, 24, 24)
    for net in method.networks.values():
        net.eval()
    with torch.no_grad():
        torch.testing.assert_close(method.denoise(x), method.g2(x))
        method.begin_round(1)
        torch.testing.assert_close(method.denoise(x), method.net(x))
    loaded = build_method("gan2gan", method.config, 1)
    loaded.load_tensors(method.tensors())
    assert bool(loaded.chosen.refined.value)


def test_starting_from_the_noisy_image_needs_no_estimate(small):
    method, data = made(small, start="z"), noisy_data()
    method.prepare(data, 0)
    assert [stage.name for stage in method.stages()] == ["generative", "G2G 1", "G2G 2"]
    method.step(data.batch(0, 5, 4), At(0, 5, "G2G 1", 0, 10))
    assert method.rounds.estimates is None


def test_estimates_are_those_of_the_whole_image_with_the_patches_symmetry():
    data = noisy_data(32)
    known = Estimates(data.noisy, lambda x: 0.5 * x.roll(1, 3), 8)
    places = data.noisy.draw(0, 0, 16)
    found = known.estimate_patches(data.noisy.gather(places), places)
    for patch, (image, top, left, k) in zip(found, places.tolist(), strict=True):
        plane = data.noisy.plane(image)
        width = plane.shape[2]
        grown = torch.nn.functional.pad(plane[None], (0, -width % 8, 0, 0), mode="replicate")
        expected = (0.5 * grown.roll(1, 3))[0, :, :, :width][:, top : top + 32, left : left + 32]
        torch.testing.assert_close(patch, symmetric(expected, k))


def test_images_too_large_to_be_estimated_whole_are_estimated_by_patches(monkeypatch):
    monkeypatch.setattr("pairfree.methods.parts.estimates.LARGEST_PX", 100)
    data = noisy_data(32)
    known = Estimates(data.noisy, lambda x: 0.5 * x, 8)
    places = data.noisy.draw(0, 0, 4)
    patches = data.noisy.gather(places)
    torch.testing.assert_close(known.estimate_patches(patches, places), 0.5 * patches)
    assert not known.known


# -- networks and settings -----------------------------------------------------------------------------------


def test_networks_have_the_papers_shapes():
    z, x = torch.randn(2, 128), torch.rand(2, 1, 64, 64)
    noise = NoiseGenerator()(z)
    assert noise.shape == (2, 1, 64, 64)
    modules = NoiseGenerator().modules()
    upward = [layer for layer in modules if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in upward] == [64, 32, 16, 8, 1]
    assert all(layer.bias is None for layer in upward)
    assert NoiseGenerator(3, 4, 32)(z).shape == (2, 3, 32, 32)
    assert noise.abs().max() <= 1
    rough = RoughDenoiser(1, 8, 5)(x)
    assert 0 <= rough.min() <= rough.max() <= 1
    assert WassersteinCritic(1, 8)(x).shape == (2, 1, 5, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"generator": "dcgan"},
        {"start": "x"},
        {"start": "g2"},
        {"start_share": 1.0},
        {"noise_patch_px": 30},
        {"iterations": 0},
        {"alpha": -1.0},
        {"generator": "wgan", "generator_px": 48},
        {"generator": "wgan", "generator_px": 128},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        ShortGAN2GANConfig(**{**vars(PRESETS["gan2gan"]["cpu"]), **wrong})


def test_images_without_smooth_areas_are_refused(small):
    method = small.method("gan2gan", smooth_limit=0.0, even=False)
    stripes = np.tile(np.sign(np.sin(np.arange(200) / 3.0)), (1, 200, 1)) + np.random.default_rng(
        0
    ).normal(0, 0.02, (1, 200, 200))
    with pytest.raises(InputError, match="no smooth area"):
        method.prepare(TrainingData(PatchPool([stripes], "cpu", 32)), 0)


def test_it_goes_on_from_a_denoiser_of_another_method(tmp_path):
    """The denoiser, its copy and what G2G 1 begins with have those weights.

    Generators and critics, which the other run had not, begin afresh; the rough denoiser is the
    result until the rounds begin.
    """
    rng = np.random.default_rng(0)
    images = [rng.normal(0.5, 0.1, (110, 120)).astype(np.float32) for _ in range(2)]
    settings = {"net": "dncnn", "width": 4, "patch_px": 64, "batch_size": 2, "precision": "float32"}
    first = pf.train(
        images,
        target=images,
        method="n2c",
        steps=2,
        settings=settings,
        out=tmp_path / "run",
        report=False,
    )
    job = resolve(
        Order(
            images,
            method="gan2gan",
            init=tmp_path / "run",
            steps=4,
            settings={**WGAN, "precision": "float32"},
        )
    )
    job.method.prepare(job.data, 0)
    given = first.method.net.state_dict()
    for name in ("net", "previous", "fresh"):
        weights = job.method.networks[name].state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in given.items())
    job.method.begin_round(1)
    assert all(torch.equal(value, given[key]) for key, value in job.method.net.state_dict().items())
    assert {"g1", "g2", "g3", "f1", "f2"} <= job.method.networks.keys()


def test_another_runs_progress_is_not_taken_over(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.normal(0.5, 0.1, (110, 120)).astype(np.float32) for _ in range(2)]
    settings = {**WGAN, "width": 4, "precision": "float32"}
    model = pf.train(
        images, method="gan2gan", steps=6, settings=settings, out=tmp_path / "run", report=False
    )
    assert bool(model.method.chosen.refined.value)
    job = resolve(
        Order(images, method="gan2gan", init=tmp_path / "run", steps=4, settings=settings)
    )
    assert not bool(job.method.chosen.refined.value)


# -- its relatives -------------------------------------------------------------------------------------------


def test_gcbd_learns_clean_images_from_clean_images_with_the_noise_found(small):
    """The pair is (clean + noise, clean), the noise that of the smooth areas; rule (3) by default."""
    assert PRESETS["gcbd"]["cpu"].rule == PRESETS["gcbd"]["paper"].rule == "gcbd"
    data = noisy_data(32)
    clean = PatchPool([np.full((1, 60, 60), 0.25), np.full((1, 60, 60), 0.75)], "cpu", 32)
    data = TrainingData(data.noisy, clean=clean)
    method = small.method("gcbd")
    method.prepare(data, 0)
    batch, at = data.batch(0, 0, 64), At(0, 0, "train", 0, 10)
    noise = method.noise_like(batch.clean, "noise", at)
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    with torch.no_grad():
        expected = ((method.f(batch.clean + noise) - batch.clean) ** 2).mean()
    assert method.step(batch, at)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_gcbds_generator_descends_equation_5_alone(small):
    torch.manual_seed(0)
    method = build_method(
        "gcbd",
        small.config("gcbd", "paper", batch_size=4, generative_batch=4, noise_patch_px=64),
        1,
    )
    data = noisy_data(32)
    data = TrainingData(data.noisy, clean=data.noisy)
    method.prepare(data, 0)
    assert [stage.name for stage in method.stages()] == ["generative", "train"]
    at = At(0, 0, "generative", 0, 10)
    twin = copy.deepcopy(method)
    logged = method.step(data.batch(0, 0, 4), at)
    twin.f1.load_state_dict(method.f1.state_dict())
    with torch.no_grad():
        expected = -twin.f1(twin.g1(twin.latent(4, "latent", at))).mean()
    assert logged["loss"].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-5)


def test_dncnn_b_draws_every_level_up_to_its_largest(small):
    flat = PatchPool([np.full((1, 64, 64), 0.5)], "cpu", 32)
    method, seen = small.method("dncnn-b"), []
    method.f = lambda x: seen.append(x) or method.net(x)
    batch = TrainingData(flat, clean=flat).batch(0, 0, 256)
    method.step(batch, At(0, 0, "train", 0, 10))
    levels = (seen[0] - 0.5).std((1, 2, 3))
    assert levels.max() == pytest.approx(55 / 255, rel=0.05)
    assert levels.mean() == pytest.approx(27.5 / 255, rel=0.1)
    assert levels.min() < 3 / 255


# -- noise that grows with the brightness --------------------------------------------------------------------

SHORT = {
    "net": "dncnn",
    "width": 4,
    "patch_px": 32,
    "batch_size": 2,
    "noise_patch_px": 32,
    "precision": "float32",
    "iterations": 2,
    "even": False,
}


def photons(gain: float, sigma: float, count: int = 4) -> list[np.ndarray]:
    """Smooth scenes from 10 to 200 with noise of variance gain x + sigma^2.

    Neighbours along x share the noise by a half.
    """
    rng, found = np.random.default_rng(5), []
    for _ in range(count):
        scene = 10 + 190 * np.linspace(0, 1, 160)[:, None] ** 2 * np.ones((160, 170))
        white = rng.normal(size=(160, 171))
        noise = (white[:, 1:] + 0.5 * white[:, :-1]) / 1.25**0.5
        found.append((scene + noise * np.sqrt(gain * scene + sigma**2)).astype(np.float32))
    return found


def test_noise_that_grows_is_made_even_and_results_come_back(tmp_path, caplog):
    """Gain and floor are found within 10 %, and what is imitated has one level.

    A denoiser that changes nothing gives back its image but for the bias of the square root, gain /
    4; the checkpoint keeps it all.
    """
    images = photons(3.0, 4.0)
    model = pf.train(
        images, method="gan2gan", steps=4, out=tmp_path / "run", settings=SHORT, report=False
    )
    method, scale, offset = (
        model.method,
        model.predictor.normalizer.scale,
        model.predictor.normalizer.offset,
    )
    assert method.stabilised
    assert "depends on the brightness" in caplog.text
    assert "iddp and nb2nb take it as it is" in caplog.text
    gain = float(method.even_noise.gain) * scale
    assert gain == pytest.approx(3.0, rel=0.1)
    assert float(method.even_noise.floor) * scale**2 - gain * offset == pytest.approx(
        16.0, abs=12.0
    )
    noise = (
        method.noise_like(torch.zeros(16, 1, 128, 128), "test", At(0, 0, "report", 0, 1)) * scale
    )
    middle = float(method.even_noise.middle) * scale + offset
    assert float(noise.std()) == pytest.approx((3.0 * middle + 16.0) ** 0.5, rel=0.1)
    x = torch.linspace(0.1, 0.9, 200).expand(1, 1, 16, 200)
    same = method.even_noise.back(method.even_noise(x))
    torch.testing.assert_close((same - x) * scale, torch.full_like(x, gain / 4), atol=0.15, rtol=0)
    again = pf.load(tmp_path / "run")
    np.testing.assert_array_equal(again.denoise(images[0]), model.denoise(images[0]))


def test_the_trained_generator_learns_from_even_images_too(small):
    """Its patches, its first estimate's range and its batches are those after the transform."""
    planes = [image[None] / 255 for image in photons(3.0, 4.0)]
    method, data = (
        made(small, stabilise=True, noise_patch_px=64),
        TrainingData(PatchPool(planes, "cpu", 64)),
    )
    method.prepare(data, 0)
    assert method.stabilised
    even = method.even_noise(data.noisy.flat.view(1, 1, 1, -1)).flatten()
    torch.testing.assert_close(method.data.noisy.flat, even)
    batch = data.batch(0, 0, 4)
    turned = method.even_noise(batch.noisy)
    seen = []
    method.generative_step = lambda z, at: seen.append(z) or {}
    method.step(batch, At(0, 0, "generative", 0, 2))
    assert torch.equal(seen[0], upright(method.data, 0))
    assert not torch.equal(turned, batch.noisy)
    with torch.no_grad():
        rough = method.g2(turned)
    assert even.min() - 1e-4 <= rough.min()
    assert rough.max() <= even.max() + 1e-4


def test_even_noise_is_left_alone(tmp_path):
    """Then the option changes nothing: the same weights, bit for bit."""
    models = []
    for stabilise in (False, True):
        settings, out = {**SHORT, "stabilise": stabilise}, tmp_path / str(stabilise)
        images = photons(0.0, 12.0)
        models.append(pf.train(images, method="gan2gan", steps=4, settings=settings, out=out))
    assert not models[1].method.stabilised
    first, second = (model.method.net.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_from_before_there_was_the_option_loads_and_resumes(tmp_path):
    from pairfree.engine import checkpoint
    from pairfree.engine.trainer import Stopped

    with pytest.raises(Stopped):
        pf.train(
            photons(3.0, 4.0),
            method="gan2gan",
            steps=4,
            out=tmp_path / "run",
            settings={**SHORT, "stabilise": False},
            on_step=lambda done, *_: done == 3,
        )
    found, _ = checkpoint.load_latest(tmp_path / "run/checkpoints")
    config = {key: value for key, value in found.record.config.items() if key != "stabilise"}
    record = dataclasses.replace(found.record, config=config)
    checkpoint.save(tmp_path / "run/checkpoints", record, found.tensors)
    assert pf.load(tmp_path / "run").method.config.stabilise is False
    model = pf.train(photons(3.0, 4.0), out=tmp_path / "run", resume=True)
    assert not model.method.stabilised


# -- even noise ----------------------------------------------------------------------------------------------


def made_of(method, count=16):
    """Noise that the method puts on estimates, (count, 128, 128), in deviations of even noise."""
    zeros = torch.zeros(count, 1, 128, 128)
    return method.noise_like(zeros, "test", At(0, 0, "G2G 1", 0, 1))[:, 0].double() / EVEN_LEVEL


def is_normal(values, tolerance):
    """Whether skewness and excess kurtosis of values of unit deviation are 0."""
    return (
        abs(float((values**3).mean())) < tolerance
        and abs(float((values**4).mean() - 3.0)) < 3 * tolerance
    )


def test_white_even_noise_is_normal_of_its_known_size_and_needs_no_smooth_areas(small):
    stripes = np.tile(np.sign(np.sin(np.arange(200) / 3.0)), (1, 200, 1))
    method = small.method("gan2gan")
    method.prepare(TrainingData(PatchPool([stripes], "cpu", 32)), 0)
    noise = made_of(method)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.01)
    assert is_normal(noise / noise.std(), 0.02)
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.01
    assert method.noise_samples() is None


@pytest.mark.parametrize(
    ("size", "expected"), [(1.0, 1.0), (0.85, 0.85), (0.5, 1 / 1.3), (1.6, 1.3)]
)
def test_correlated_even_noise_has_the_correlation_of_smooth_areas(small, size, expected):
    """Its size is theirs, but never above what it is said to be, nor far below."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(3, 1, 200, 201))
    noise = size * EVEN_LEVEL * (white[..., 1:] + white[..., :-1]) / 2**0.5
    data = TrainingData(PatchPool(list(noise), "cpu", 32), correlated=True)
    method = small.method("gan2gan", noise_patch_px=32)
    method.prepare(data, 0)
    made_noise = made_of(method)
    deviation = float(made_noise.std())
    assert deviation == pytest.approx(expected, abs=0.04)
    scaled = made_noise / deviation
    assert is_normal(scaled, 0.03)
    assert float((scaled[..., 1:] * scaled[..., :-1]).mean()) == pytest.approx(0.5, abs=0.04)
    assert abs(float((scaled[:, 1:] * scaled[:, :-1]).mean())) < 0.04


@pytest.mark.parametrize(("blurred", "kind"), [(False, "white"), (True, "correlated")])
def test_it_begins_with_the_start_for_the_noise_that_there_is(blurred, kind):
    rng = np.random.default_rng(0)
    shade = 100.0 + 40.0 * np.sin(np.mgrid[:160, :160][0] / 30.0)
    white = rng.normal(size=(160, 161))
    noise = (white[:, 1:] + white[:, :-1]) / 2**0.5 if blurred else white[:, 1:]
    job = resolve(Order([shade + 10.0 * noise], method="gan2gan", steps=1))
    assert job.data.correlated == blurred
    assert job.method.started
    start = load_start(kind, 1)
    stored = job.method.net.state_dict()
    assert all(torch.equal(stored[name], value) for name, value in start.items())
    assert [stage.name for stage in job.method.stages()] == ["G2G 1"]


def test_a_start_whose_estimates_are_right_is_not_made_worse(tmp_path):
    """Trained on white noise that is even already, the result is as near to the truth as the start's."""
    rng = np.random.default_rng(0)
    clean = 100.0 + 40.0 * np.sin(np.mgrid[:160, :160][0] / 30.0)
    noisy = clean + 20.0 * rng.normal(size=clean.shape)
    slow = {"lr": 1e-4}
    out = tmp_path / "run"
    model = pf.train([noisy], method="gan2gan", settings=slow, steps=10, out=out, report=False)
    before = np.mean((pf.load("shipped").denoise(noisy) - clean) ** 2)
    after = np.mean((model.denoise(noisy) - clean) ** 2)
    assert after < 1.2 * before < 0.02 * 20.0**2
