"""The shipped start: what begins from it, what is recorded, and what happens where it is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.nets import start
from pairfree.nets.even_unet import EvenUNet
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.start import ShippedNet, load_start, make_start
from pairfree.scenes import draw_scene
from pairfree.training.job import resolve
from pairfree.training.order import Order

SETTINGS = {"patch_px": 32, "batch_size": 2}


def noisy(count: int = 2, side: int = 64, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(index, seed, height=side, width=side) for index in range(count)]
    return [(20.0 * rng.poisson(40.0 * scene)).astype(np.uint16) for scene in scenes]


@pytest.fixture
def own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped files, in a folder that a test may damage."""
    folder = tmp_path / "start"
    shutil.copytree(start.FOLDER, folder)
    monkeypatch.setattr(start, "FOLDER", folder)
    return folder


@pytest.mark.parametrize(("kind", "channels"), start.SHIPPED)
def test_a_start_takes_most_of_its_noise_off_and_leaves_nothing_of_its_own(kind, channels):
    """On noise alone: what stays is flat."""
    net = make_start(kind, channels).eval()
    rng = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(1, channels, 256, 256, generator=rng)
    with torch.no_grad():
        left = net(noise)
    assert left.std() < 0.1 * (0.05 if channels == 1 else 0.06)
    assert abs(left.mean()) < 0.1 * 0.02


def test_a_run_begins_from_the_start_and_says_so(tmp_path):
    out = tmp_path / "run"
    model = pf.train(noisy(), out=out, steps=1, settings={**SETTINGS, "lr": 1e-9}, report=False)
    expected = load_start("white", 1)
    found = model.method.net.state_dict()
    for name, weight in expected.items():
        if name != "grid":  # it is measured anew
            assert torch.allclose(found[name], weight, atol=1e-5), name
    assert model.record.start == "shipped"
    assert 'start = "shipped"' in (out / "config.toml").read_text()
    assert pf.load(out).record.start == "shipped"
    assert pf.load(out).method.started


def test_random_weights_are_had_by_name_and_by_preset_paper(tmp_path):
    expected = load_start("white", 1)["bottom.0.conv1.weight"]
    model = pf.train(noisy(), start="none", steps=2, settings=SETTINGS, report=False)
    assert model.record.start == "none"
    assert not torch.allclose(
        model.method.net.state_dict()["bottom.0.conv1.weight"], expected, atol=0.1
    )
    paper = pf.train(noisy(), preset="paper", steps=1, settings={"patch_px": 32}, report=False)
    assert paper.record.start == "none"


def test_the_warm_start_of_iddp_is_left_out_after_the_shipped_one():
    stages = {}
    for name in ("shipped", "none"):
        model = pf.train(noisy(), start=name, steps=4, settings=SETTINGS, report=False)
        stages[name] = [stage for stage, _ in model.record.plan.stages]
    assert len(stages["shipped"]) == 1
    assert len(stages["none"]) == 2


@pytest.mark.parametrize("begun_from", ["shipped", "none"])
def test_a_stopped_run_of_iddp_goes_on_with_its_stages(begun_from, tmp_path):
    def stop(done: int, *_: object) -> bool:
        return done == 2

    options = {"method": "iddp", "start": begun_from, "settings": SETTINGS, "report": False}
    with pytest.raises(pf.PairfreeError):
        pf.train(noisy(), out=tmp_path / "run", steps=4, on_step=stop, **options)
    model = pf.train(noisy(), out=tmp_path / "run", resume=True, report=False)
    assert model.record.step == 4
    assert model.record.start == begun_from


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": "scenes"}, "must be one of shipped, none"),
        ({"start": "shipped", "method": "b2u"}, "does not train the network even-unet"),
        ({"start": "shipped", "method": "cvf-sid"}, "does not train the network even-unet"),
        ({"start": "shipped", "settings": {"width": 8, **SETTINGS}}, "another width"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(options, words):
    with pytest.raises(pf.PairfreeError, match=words):
        pf.train(noisy(), steps=2, report=False, **options)


def test_another_width_begins_from_random_weights():
    settings = {**SETTINGS, "width": 8}
    model = pf.train(noisy(), steps=2, settings=settings, report=False)
    assert model.record.start == "none"


def test_a_resumed_run_goes_on_from_its_own_weights(tmp_path, own_copy):
    whole = pf.train(noisy(), out=tmp_path / "whole", steps=4, settings=SETTINGS, report=False)
    stop = tmp_path / "stopped"
    with pytest.raises(pf.PairfreeError):
        pf.train(
            noisy(),
            out=stop,
            steps=4,
            settings=SETTINGS,
            report=False,
            on_step=lambda done, *_: done == 2,
        )
    for file in own_copy.iterdir():
        file.unlink()
    resumed = pf.train(noisy(), out=stop, resume=True, report=False)
    assert resumed.record.start == "shipped"
    for name, weight in whole.method.net.state_dict().items():
        assert torch.equal(resumed.method.net.state_dict()[name], weight), name


def test_a_missing_start_is_one_line_and_none_works(own_copy):
    (own_copy / "white-1.safetensors").unlink()
    with pytest.raises(
        pf.CheckpointError, match=r"white-1\.safetensors: .*cannot be read.*`start` none"
    ):
        pf.train(noisy(), steps=2, settings=SETTINGS, report=False)
    assert pf.train(noisy(), start="none", steps=2, settings=SETTINGS, report=False)
    with pytest.raises(pf.CheckpointError, match="install pairfree anew"):
        pf.load("shipped")


@pytest.mark.parametrize("damage", ["bytes", "digest", "json", "other network"])
def test_a_damaged_start_is_refused_whole(own_copy, damage):
    numbers, words = own_copy / "white-1.safetensors", own_copy / "white-1.json"
    if damage == "bytes":
        blob = bytearray(numbers.read_bytes())
        blob[-9] ^= 1
        numbers.write_bytes(blob)
    elif damage == "digest":
        words.write_text(json.dumps({**json.loads(words.read_text()), "sha256": "0" * 64}))
    elif damage == "json":
        words.write_text("[1]")
    else:
        import hashlib

        import safetensors.torch

        safetensors.torch.save_file(EvenUNet(1, width=8).state_dict(), numbers)
        facts = {"sha256": hashlib.sha256(numbers.read_bytes()).hexdigest()}
        words.write_text(json.dumps(facts))
    with pytest.raises(pf.CheckpointError, match="shipped start"):
        make_start("white")


def test_the_shipped_network_needs_no_run(tmp_path):
    clean = 200.0 * draw_scene(4, 0, height=96, width=120)
    rng = np.random.default_rng(0)
    image = np.rint(np.clip(clean + 20.0 * rng.standard_normal(clean.shape), 0, 255)).astype(
        np.uint8
    )
    model = pf.load("shipped")
    made = model.denoise(image)
    assert made.dtype == np.uint8
    assert made.shape == image.shape
    before = np.mean((image - clean) ** 2)
    assert np.mean((made - clean) ** 2) < 0.3 * before


def test_colours_and_stacks_go_through_the_shipped_network_plane_by_plane(tmp_path):
    image = np.stack([one.astype(np.float32) for one in noisy(4, side=72)], axis=0)
    model = pf.load("shipped")
    stack = model.denoise(image, axes="ZYX")
    for index, plane in enumerate(image):
        assert np.allclose(stack[index], model.denoise(plane), rtol=1e-4, atol=1e-2)
    colours = np.moveaxis(image[:3], 0, -1)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pf.save_image(pf.Image(np.clip(colours / 8, 0, 255).astype(np.uint8), "YXS"), source / "c.png")
    pf.denoise("shipped", source, out)
    assert pf.open_image(out / "c.png").shape == colours.shape


def test_a_run_in_a_folder_of_that_name_is_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pf.load("shipped").method.key == "shipped"
    pf.train(noisy(), out="shipped", method="nb2nb", steps=2, settings=SETTINGS, report=False)
    assert pf.load("shipped").method.key == "nb2nb"


@pytest.mark.parametrize(
    ("options", "minutes"),
    [
        ({}, 0.75),
        ({"start": "none"}, 10.0),
        ({"settings": {"minutes": 5.0}}, 5.0),
        ({"minutes": 3.0}, 3.0),
        ({"settings": {"steps": 5, "minutes": 0.0}}, 0.0),
        ({"settings": {"width": 16}}, 10.0),
    ],
)
def test_a_run_from_the_start_takes_a_minute_and_one_from_random_weights_ten(options, minutes):
    assert resolve(Order(noisy(1), **options)).minutes == minutes


def test_the_shipped_network_says_what_it_was_trained_on():
    told = dict(pf.info("shipped"))
    assert "needs no run" in told["method"]
    for kind, channels in start.SHIPPED:
        colour = "grey" if channels == 1 else "colour"
        said = told[f"{kind}, {colour}"]
        assert f"{start.read_facts(kind, channels)['steps']:,} steps" in said
        assert f"{colour} scenes that a program drew" in said


def test_the_stated_receptive_field_of_the_shipped_network_is_the_measured_one():
    net = ShippedNet()
    for channels, part in ((1, net.white), (1, net.correlated), (3, net.colour)):
        assert net.receptive_field_px(channels) == measured_receptive_field_px(part, channels)


def test_grey_that_is_stored_as_colours_is_denoised_as_grey():
    scene = 200.0 * draw_scene(3, 5, height=96, width=96)
    grey = np.clip(scene + 20.0 * np.random.default_rng(0).standard_normal(scene.shape), 0, 255)
    model = pf.load("shipped")
    alone = model.denoise(grey.astype(np.float32))
    colours = model.denoise(np.stack([grey] * 3).astype(np.float32))
    assert np.array_equal(colours[0], colours[1])
    assert colours[2] == pytest.approx(alone, abs=1e-3)
