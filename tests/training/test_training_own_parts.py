"""The Python surface: arrays in and out, fine-tuning, your own method, your own network."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import pairfree as pf
import pairfree.api
from pairfree.engine import checkpoint
from pairfree.errors import CheckpointError, ConfigError, DivergedError, InputError
from pairfree.methods.base import Method, Needs, update
from pairfree.methods.n2c import supervised_loss
from pairfree.training.job import resolve
from pairfree.training.order import Order

TINY = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}


def images(count=2, shape=(24, 36), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(1000, 60, shape).astype(np.uint16) for _ in range(count)]


@dataclass(frozen=True)
class OwnConfig:
    rate: float = 1e-3


class Own(Method):
    """A method as the documentation tells to write one."""

    key, title, needs, citation, assumption = "own", "Own", Needs.TARGET_NOISY, "none", "none"
    patch_px, batch_size = 16, 2

    def __init__(self, channels, device):
        self.config = OwnConfig()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1)
        ).to(device)
        self.networks = {"net": self.net}

    def make_optimizers(self):
        return {"net": torch.optim.Adam(self.net.parameters(), self.config.rate)}

    denoiser = property(lambda self: self.net)

    def step(self, batch, at):
        loss = supervised_loss(self.net(batch.noisy), batch.target)
        update(self.optimizers["net"], loss, at, "net")
        return {"loss": loss.detach()}

    def denoise(self, x):
        return self.net(x)


class OwnNet(nn.Module):
    """A network as the documentation tells to write one, with a stride of its own."""

    stride = 2

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 2, stride=2)

    def forward(self, x):
        return x - self.up(torch.relu(self.down(x)))


@pytest.mark.parametrize(
    "own", [Own, lambda: Own(1, torch.device("cpu"))], ids=["class", "instance"]
)
def test_your_own_method(own, tmp_path):
    """Trains, reports, is stopped and resumed, and is loaded by passing it again.

    Without it, the run says what to pass.
    """
    noisy, target, run = images(), images(seed=1), tmp_path / "run"
    made = own if own is Own else own()
    model = pf.train(noisy, target=target, method=made, steps=4, out=run)
    assert (run / "report.html").is_file()
    for path in checkpoint.listing(run / "checkpoints")[-1:]:
        path.unlink()  # back to step 0
    again = pf.train(
        noisy,
        target=target,
        method=own if own is Own else own(),
        out=run,
        resume=True,
        report=False,
    )
    loaded = pf.load(run, method=Own)
    assert (model.denoise(noisy[0]) != noisy[0]).any()
    np.testing.assert_array_equal(loaded.denoise(noisy[0]), again.denoise(noisy[0]))
    if own is Own:
        np.testing.assert_array_equal(again.denoise(noisy[0]), model.denoise(noisy[0]))
    with pytest.raises(CheckpointError, match="method of your own, 'own'"):
        pf.load(run)
    with pytest.raises(CheckpointError, match="method of your own, 'own'"):
        pf.train(noisy, target=target, out=run, resume=True)
    with pytest.raises(ConfigError, match="own method"):
        pf.train(noisy, target=target, method=Own, settings={"rate": 1.0}, steps=2)
    with pytest.raises(ConfigError, match="`target`"):
        pf.train(noisy, method=Own, steps=2)


def test_your_own_network(tmp_path):
    """Any size is denoised (odd ones are padded to its stride); loading needs the network, and says so."""
    noisy = images(shape=(23, 35))
    model = pf.train(
        noisy,
        method="n2v",
        net=OwnNet(),
        settings={**TINY},
        steps=3,
        out=tmp_path / "run",
        report=False,
    )
    loaded = pf.load(tmp_path / "run", net=OwnNet())
    np.testing.assert_array_equal(loaded.denoise(noisy[0]), model.denoise(noisy[0]))
    with pytest.raises(CheckpointError, match="net="):
        pf.load(tmp_path / "run")


def test_fine_tuning_starts_from_the_weights_and_the_intensity_map(tmp_path):
    """A rate so small that nothing moves: the fine-tuned model is the model it began with.

    The normaliser is kept.
    """
    first = pf.train(
        images(), method="nb2nb", settings=TINY, steps=5, out=tmp_path / "first", report=False
    )
    other = [image // 2 for image in images(seed=4)]
    second = pf.train(
        other, init=tmp_path / "first", settings={**TINY, "lr": 1e-30}, steps=1, report=False
    )
    assert second.method.key == "nb2nb"
    assert second.record.normalizer == first.record.normalizer
    for name, value in first.method.networks["net"].state_dict().items():
        assert torch.allclose(
            value, second.method.networks["net"].state_dict()[name], rtol=0, atol=1e-25
        ), name
    third = pf.train(
        other, method="iddp", init=tmp_path / "first", settings=TINY, steps=2, report=False
    )
    assert third.record.config["width"] == 4
    with pytest.raises(CheckpointError, match=r"width=4.* is not the one asked for .*width=8"):
        pf.train(
            other, method="iddp", init=tmp_path / "first", settings=TINY | {"width": 8}, steps=2
        )
    colour = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24)).astype(np.uint8)
    with pytest.raises(CheckpointError, match="another number of channels"):
        pf.train(colour, method="nb2nb", init=tmp_path / "first", settings=TINY, steps=2)


@pytest.mark.parametrize(
    ("array", "planes"),
    [
        (np.random.default_rng(0).random((20, 24)), 1),
        (np.random.default_rng(0).random((3, 20, 24)), 3),
        (np.random.default_rng(0).random((2, 3, 20, 24)), 2),
    ],
)
def test_one_array_is_an_image_or_a_stack(array, planes):
    job = resolve(Order(array, method="n2v", steps=1, settings=TINY))
    assert len(job.noisy.planes) == planes


@pytest.mark.parametrize(
    "bad",
    [
        [],
        np.zeros(5),
        [np.zeros((2, 2, 2, 2))],
        "nowhere",
        [np.zeros((4, 4), complex)],
        [np.zeros((0, 3))],
    ],
)
def test_what_is_no_image_set_is_refused(bad):
    with pytest.raises(InputError):
        pf.train(bad, method="n2v", steps=1, settings=TINY)


def test_without_out_nothing_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = pf.train(images(), method="n2v", steps=2, settings=TINY)
    assert list(tmp_path.iterdir()) == []
    assert model.denoise(images()[0]).dtype == np.uint16


def test_training_does_not_touch_its_input():
    noisy = images()
    before = [image.copy() for image in noisy]
    model = pf.train(noisy, method="iddp", steps=3, settings=TINY)
    model.denoise(noisy[0])
    for image, copy in zip(noisy, before, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_fine_tuning_starts_from_what_denoised(tmp_path):
    """Of an IDDP run that is the average, not the network that was trained beside it."""
    settings = {**TINY, "prior_batch": 1, "window": 1.0}
    first = pf.train(
        images(), method="iddp", out=tmp_path / "first", steps=6, settings=settings, report=False
    )
    assert not torch.equal(
        next(first.method.denoiser.parameters()), next(first.method.net.parameters())
    )
    for method in ("nb2nb", "iddp"):
        second = resolve(
            Order(images(), method=method, init=tmp_path / "first", steps=2, settings=TINY)
        ).method
        for mine, theirs in zip(
            second.net.parameters(), first.method.denoiser.parameters(), strict=True
        ):
            assert torch.equal(mine, theirs)


def test_resume_refuses_other_target_images(tmp_path):
    pairs = images(), images(seed=1)
    pf.train(
        pairs[0],
        target=pairs[1],
        method="n2c",
        out=tmp_path / "run",
        steps=2,
        settings=TINY,
        report=False,
    )
    # An array is no truth value.
    again = pf.train(
        pairs[0], target=np.stack(pairs[1]), out=tmp_path / "run", resume=True, report=False
    )
    assert again.record.step == 2
    with pytest.raises(InputError, match="not those the run began with"):
        pf.train(pairs[0], target=images(seed=2), out=tmp_path / "run", resume=True, report=False)


def test_channels_last_arrays_are_refused_with_the_remedy():
    colour = np.random.default_rng(0).random((30, 40, 3))
    for given in (colour, [colour]):
        with pytest.raises(InputError, match=r"np\.moveaxis"):
            resolve(Order(given, method="n2v", steps=1, settings=TINY))
    first = np.moveaxis(colour, -1, 0)
    assert resolve(Order([first], method="n2v", steps=1, settings=TINY)).noisy.channels == 3


class WithNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

    def forward(self, x):
        return x - self.norm(self.conv(x))


def test_a_network_that_has_been_applied_is_trained_again_in_training_mode(tmp_path):
    net = WithNorm()
    pf.train(images(), method="n2v", net=net, steps=2, settings=TINY)
    assert not net.training
    before = net.norm.running_mean.clone()
    pf.train(images(), method="n2v", net=net, steps=2, settings=TINY)
    assert not torch.equal(before, net.norm.running_mean)


def test_a_method_of_ours_given_as_its_class_is_that_method():
    assert (
        resolve(Order(images(), method=pf.METHODS["n2v"], steps=1, settings=TINY)).method.key
        == "n2v"
    )


def test_a_network_whose_stride_is_not_stated_is_refused_with_the_remedy():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 2, stride=2)

        def forward(self, x):
            return x - self.up(self.down(x))

    with pytest.raises(ConfigError, match="stride"):
        resolve(Order(images(), method="n2v", net=Half(), steps=1, settings=TINY))


def test_an_own_network_is_named_by_its_class():
    assert (
        resolve(Order(images(), method="n2v", net=WithNorm(), steps=1, settings=TINY)).config["net"]
        == "WithNorm"
    )


def test_divergence_without_a_folder_names_none():
    with pytest.raises(DivergedError) as refused:
        pf.train(images(), method="n2v", steps=5, settings={**TINY, "lr": 1e20})
    assert "pairfree-" not in str(refused.value)


def test_signs_of_invention_are_said_when_training_ends(tmp_path, monkeypatch, caplog):
    """Not in the report alone, which nobody may open."""
    monkeypatch.setattr(
        "pairfree.training.examining.warn_of_invention",
        lambda evidence, examined: ["The output shows a second nucleus."],
    )
    image = np.random.default_rng(0).normal(100, 10, (64, 64)).astype(np.float32)
    pf.train(
        [image],
        method="n2v",
        steps=2,
        settings={"width": 4, "patch_px": 32, "batch_size": 2},
        out=tmp_path / "run",
    )
    assert "on the training images: The output shows a second nucleus." in caplog.text
