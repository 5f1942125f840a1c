"""Training with clean images of other scenes: what is chosen, refused, warned about, resumed."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from scipy import ndimage

import pairfree as pf
from pairfree.cli.terminal import several
from pairfree.errors import CheckpointError, ConfigError, InputError, OutputError
from pairfree.files import Image, save_image
from pairfree.measure.level import estimate_sigma
from pairfree.training.job import resolve
from pairfree.training.order import Order

COMMON = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32", "critic_width": 4}
"""Settings that all unpaired methods have."""
TINY = {**COMMON, "blocks": 1, "extractor_width": 4, "extractor_depth": 3}
RIVALS = {
    "cyclegan": TINY,
    "uidnet": {**COMMON, "generator_width": 4},
    "quan": {**COMMON, "blocks": 1},
}


def scenes(count: int, seed: int, sigma: float = 0.0, dtype: type = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal((96, 104)), 4) for _ in range(count)]
    made = [
        np.interp(f, (f.min(), f.max()), (40, 210)) + rng.normal(0, sigma, f.shape) for f in fields
    ]
    if dtype is np.uint8:
        made = [np.clip(np.rint(image), 0, 255) for image in made]
    return [image.astype(dtype) for image in made]


def test_a_clean_set_means_iscl():
    job = resolve(Order(scenes(2, 0, 20), clean=scenes(3, 1), steps=2, settings=TINY))
    assert job.method.key == "iscl"
    assert job.data.clean is not None
    assert len(job.data.clean) == 3


@pytest.mark.parametrize("key", ["iscl", *RIVALS])
def test_it_trains_and_denoises(key, tmp_path):
    given = {"clean": scenes(2, 1), **({"noise_images": scenes(2, 5, 20)} if key == "quan" else {})}
    settings = RIVALS.get(key, TINY)
    model = pf.train(
        scenes(2, 0, 20), method=key, out=tmp_path / "run", steps=8, settings=settings, **given
    )
    image = scenes(1, 3, 20)[0]
    found = model.denoise(image)
    assert found.shape == image.shape
    assert not np.array_equal(found, image)
    np.testing.assert_array_equal(pf.load(tmp_path / "run").denoise(image), found)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "other scenes" in report
    assert ("two denoisers differ" in report) == (key == "iscl")


@pytest.mark.parametrize("key", ["iscl", *RIVALS])
def test_a_resumed_run_equals_an_uninterrupted_one(key, tmp_path):
    """Images of another pixel type beside the noisy ones: both intensity maps come back too."""
    noisy, given = scenes(2, 0, 20, np.uint8), {"clean": [image * 100 for image in scenes(2, 1)]}
    if key == "quan":
        given["noise_images"] = scenes(2, 5, 20)
    options = {
        "method": key,
        "steps": 10,
        "settings": RIVALS.get(key, TINY),
        "report": False,
        **given,
    }
    whole = pf.train(noisy, out=tmp_path / "whole", **options)

    class Enough(Exception):
        pass

    def stop(done, total, stage, loss):
        if done == 5:
            raise Enough

    with pytest.raises(Enough):
        pf.train(noisy, out=tmp_path / "halved", on_step=stop, **options)
    again = pf.train(noisy, out=tmp_path / "halved", resume=True, report=False, **given)
    ours, theirs = whole.method.tensors(), again.method.tensors()
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in ours)
    assert whole.record.clean_normalizer == again.record.clean_normalizer != whole.record.normalizer


@pytest.mark.parametrize("which", ["clean", "noise_images"])
def test_resume_refuses_other_images(which, tmp_path):
    given = {"clean": scenes(2, 1), "noise_images": scenes(2, 5, 20)}
    noisy = scenes(2, 0, 20)
    pf.train(
        noisy,
        method="quan",
        out=tmp_path / "run",
        steps=2,
        settings=RIVALS["quan"],
        report=False,
        **given,
    )
    with pytest.raises(InputError, match="not those the run began with"):
        pf.train(
            noisy, out=tmp_path / "run", resume=True, report=False, **{**given, which: scenes(2, 9)}
        )


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("iscl", {}, "needs an unpaired clean set of other scenes"),
        ("quan", {"clean": scenes(2, 1)}, "images of the noise alone"),
        ("quan", {"noise_images": scenes(2, 5)}, "needs an unpaired clean set"),
        ("iddp", {"clean": scenes(2, 1)}, "no use of `clean`; leave it out, or use `method` iscl"),
        (
            "iscl",
            {"clean": scenes(2, 1), "noise_images": scenes(2, 5)},
            "no use of `noise_images`.*quan",
        ),
        ("iscl", {"clean": scenes(2, 1), "target": scenes(2, 5)}, "no use of `target`"),
    ],
)
def test_sets_that_do_not_go_with_the_method_are_refused(method, given, says):
    with pytest.raises(ConfigError, match=says):
        resolve(Order(scenes(2, 0, 20), method=method, steps=2, **given))


def test_scenes_in_both_sets_are_refused():
    rng = np.random.default_rng(8)
    clean = scenes(3, 1)
    noisy = [*scenes(2, 0, 20), (clean[2] + rng.normal(0, 20, clean[2].shape)).astype(np.float32)]
    says = (
        r"clean image 2: shows the same scene as noisy image 2 \(correlation 0\.\d\d\)"
        r".*`method` n2c and `target`"
    )
    with pytest.raises(InputError, match=says):
        resolve(Order(noisy, clean=clean, steps=2, settings=TINY))


def test_a_clean_set_that_is_noisier_is_warned_about(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "pairfree"):
        pf.train(
            scenes(2, 0, 5),
            clean=scenes(2, 1, 25),
            out=tmp_path / "run",
            steps=2,
            settings=TINY,
            report=False,
        )
    (line,) = [record.getMessage() for record in caplog.records]
    assert "noisier than the noisy one" in line
    first, second = (float(number) for number in re.findall(r"[\d.]+", line)[:2])
    assert first == pytest.approx(25, rel=0.15)
    assert second == pytest.approx(5, rel=0.3)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pairfree"):
        pf.train(
            scenes(2, 0, 25),
            clean=scenes(2, 1, 5),
            out=tmp_path / "other",
            steps=2,
            settings=TINY,
            report=False,
        )
    assert not caplog.records


def test_noise_that_takes_contrast_away_raises_no_alarm():
    """Film: the estimate of fine noise falls with the contrast, below that of a clean set with grain.

    The grain is the clean set's own.
    """
    rng = np.random.default_rng(3)
    noisy = [
        (0.3 * image + 70 + rng.normal(0, 3.2, image.shape)).astype(np.float32)
        for image in scenes(2, 0, 5)
    ]
    clean = scenes(2, 1, 5)
    job = resolve(Order(noisy, clean=clean, steps=2, settings=TINY))
    assert max(map(estimate_sigma, noisy)) < min(map(estimate_sigma, clean))
    assert not job.warnings


def test_channels_must_agree():
    colour = [np.stack([image] * 3) for image in scenes(2, 1)]
    with pytest.raises(InputError, match="3 channels, the noisy images 1"):
        resolve(Order(scenes(2, 0, 20), clean=colour, steps=2, settings=TINY))


def test_fine_tuning_keeps_both_intensity_maps(tmp_path):
    first = pf.train(
        scenes(2, 0, 20),
        clean=scenes(2, 1),
        out=tmp_path / "first",
        steps=4,
        settings=TINY,
        report=False,
    )
    job = resolve(
        Order(
            [image * 3 for image in scenes(2, 2, 20)],
            clean=scenes(2, 3),
            init=tmp_path / "first",
            steps=2,
            settings={"precision": "float32"},
        )
    )
    assert job.method.key == "iscl"
    assert job.normalizer == first.record.normalizer
    assert job.clean_normalizer is not None
    assert job.clean_normalizer == first.record.clean_normalizer


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (
            ["noisy", "--clean", "a", "b", "--out", "run"],
            ["noisy", "--clean", "a", "--clean", "b", "--out", "run"],
        ),
        (
            ["n1", "n2", "--clean", "a", "b", "c"],
            ["n1", "n2", "--clean", "a", "--clean", "b", "--clean", "c"],
        ),
        (["noisy", "--clean", "a", "--clean", "b"], ["noisy", "--clean", "a", "--clean", "b"]),
        (["--clean", "a", "noisy"], ["--clean", "a", "noisy"]),
        (
            ["noisy", "--steps", "5", "--clean=a", "--out", "run"],
            ["noisy", "--steps", "5", "--clean=a", "--out", "run"],
        ),
        ([], []),
    ],
)
def test_clean_takes_several(typed, meant):
    assert several(typed, "--clean") == meant


def test_averages_are_where_fine_tuning_goes_on(tmp_path):
    first = pf.train(
        scenes(2, 0, 20),
        clean=scenes(2, 1),
        out=tmp_path / "first",
        steps=8,
        settings={**TINY, "swa_from": 0.1},
        report=False,
    )
    own, averaged = next(first.method.F.parameters()), next(first.method.F_swa.net.parameters())
    assert not torch.equal(own, averaged)
    job = resolve(
        Order(
            scenes(2, 2, 20),
            clean=scenes(2, 3),
            init=tmp_path / "first",
            steps=2,
            settings={"precision": "float32"},
        )
    )
    for mine, theirs in zip(
        job.method.F.parameters(), first.method.F_swa.net.parameters(), strict=True
    ):
        assert np.array_equal(mine.detach().numpy(), theirs.detach().numpy())


ADDED = {
    "nets": "residual",
    "optimizer": "radam",
    "critic_lr": 0.0,
    "start": 0.0,
    "agreement": 1.0,
    "grid_weight": 0.0,
    "critics_ramp": 0.0,
}
"""Settings that every config of iscl and cyclegan had while the paper's and the short preset's were one."""


@pytest.mark.parametrize("key", ["iscl", "cyclegan"])
def test_a_paper_run_whose_config_holds_the_short_presets_settings_goes_on(key, tmp_path):
    """Of iscl and of cyclegan all settings were stored, whatever the preset."""
    given = {
        "clean": scenes(2, 1),
        "method": key,
        "preset": "paper",
        "settings": TINY | ADDED,
        "report": False,
    }
    whole = pf.train(scenes(2, 0, 20), out=tmp_path / "whole", steps=4, **given)
    assert whole.record.config.items() >= ADDED.items()

    def stop(done, total, stage, loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pf.train(scenes(2, 0, 20), out=tmp_path / "run", steps=4, on_step=stop, **given)
    resumed = pf.train(
        scenes(2, 0, 20),
        clean=scenes(2, 1),
        out=tmp_path / "run",
        resume=True,
        settings={"nets": "residual"},
        report=False,
    )
    ours, theirs = resumed.method.weights(), whole.method.weights()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ConfigError, match="optimizer=muon"):
        pf.train(out=tmp_path / "run", resume=True, settings={"optimizer": "muon"})


def test_a_setting_of_the_short_preset_can_be_set_beside_the_paper_preset():
    given = {"clean": scenes(2, 1), "method": "iscl", "preset": "paper", "steps": 2}
    paper = resolve(Order(scenes(2, 0, 20), settings=TINY, **given)).method
    assert type(paper) is pf.METHODS["iscl"]
    ours = resolve(Order(scenes(2, 0, 20), settings={**TINY, "grid_weight": "3"}, **given)).method
    assert (ours.config.grid_weight, ours.config.lr, ours.config.start) == (
        3.0,
        paper.config.lr,
        0.0,
    )
    with pytest.raises(ConfigError, match="did you mean 'critics_ramp'"):
        resolve(Order(scenes(2, 0, 20), settings={"critic_ramp": 1.0}, **given))


def test_a_cycle_can_be_given_an_extractor(tmp_path):
    first = pf.train(
        scenes(2, 0, 20),
        clean=scenes(2, 1),
        method="cyclegan",
        out=tmp_path / "first",
        steps=4,
        settings=TINY,
        report=False,
    )
    job = resolve(
        Order(
            scenes(2, 2, 20),
            clean=scenes(2, 3),
            method="iscl",
            init=tmp_path / "first",
            steps=2,
            settings=TINY,
        )
    )
    for mine, theirs in zip(
        job.method.G.parameters(), first.method.G_swa.net.parameters(), strict=True
    ):
        assert np.array_equal(mine.detach().numpy(), theirs.detach().numpy())
    with pytest.raises(CheckpointError, match="no network that n2c could begin with"):
        resolve(
            Order(
                scenes(2, 0),
                target=scenes(2, 1),
                method="n2c",
                init=tmp_path / "first",
                steps=2,
                settings={"width": 4, "patch_px": 16},
            )
        )


def test_fine_tuning_measures_the_noise_of_its_own_images(tmp_path):
    first = pf.train(
        scenes(2, 0, 20),
        clean=scenes(2, 1),
        out=tmp_path / "first",
        steps=10,
        settings=TINY,
        report=False,
    )
    assert int(first.method.transplant.renewals) == 3
    job = resolve(
        Order(
            scenes(2, 2, 20), clean=scenes(2, 3), init=tmp_path / "first", steps=10, settings=TINY
        )
    )
    assert int(job.method.transplant.renewals) == 0


def test_a_map_each_for_two_sets_of_bytes():
    noisy = scenes(2, 0, 5, np.uint8)
    clean = [image // 2 for image in scenes(2, 1, 0, np.uint8)]
    settings = {**TINY, "intensity": "separate"}
    job = resolve(Order(noisy, clean=clean, steps=2, settings=settings))
    assert job.clean_normalizer is not None
    assert job.normalizer.scale > 1.5 * job.clean_normalizer.scale


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (
            ["--out", "run", "noisy", "--clean", "a", "b"],
            ["--out", "run", "noisy", "--clean", "a", "--clean", "b"],
        ),
        (
            ["--dry-run", "noisy", "--clean", "a", "b"],
            ["--dry-run", "noisy", "--clean", "a", "--clean", "b"],
        ),
        (
            ["--minutes", "-1", "noisy", "--clean", "a", "b"],
            ["--minutes", "-1", "noisy", "--clean", "a", "--clean", "b"],
        ),
        (["--out", "run", "--clean", "a", "noisy"], ["--out", "run", "--clean", "a", "noisy"]),
    ],
)
def test_clean_takes_several_wherever_it_stands(typed, meant):
    assert several(typed, "--clean", ["--dry-run"]) == meant


def test_a_map_that_is_stopped_goes_on_tile_by_tile(tmp_path, monkeypatch):
    """Where the image was done and its map half, neither is begun anew.

    Nothing has a final name before both are complete.
    """
    monkeypatch.setattr("pairfree.files.sinks.JOURNALED_PX", 100)
    model = pf.train(scenes(2, 0, 20), clean=scenes(2, 1), steps=2, settings=TINY)
    model.predictor.core_px = 32
    save_image(Image(scenes(1, 3, 20)[0], "YX", family="tiff"), tmp_path / "in/a.tif")
    pf.denoise(model, tmp_path / "in", tmp_path / "whole", disagreement=tmp_path / "whole-maps")
    applied, true, stop = [0], type(model.predictor)._apply_to_tile, 12 + 5

    def counted(self, *given):
        applied[0] += 1
        if applied[0] == stop:
            raise KeyboardInterrupt
        return true(self, *given)

    monkeypatch.setattr(type(model.predictor), "_apply_to_tile", counted)
    with pytest.raises(KeyboardInterrupt):
        pf.denoise(model, tmp_path / "in", tmp_path / "out", disagreement=tmp_path / "maps")
    assert not (tmp_path / "out/a.tif").exists()
    assert not (tmp_path / "maps/a.tif").exists()
    pf.denoise(model, tmp_path / "in", tmp_path / "out", disagreement=tmp_path / "maps")
    assert applied[0] == 2 * 12 + 1  # of 96 x 104 px; the one that was stopped is done again
    for first, second in (("whole", "out"), ("whole-maps", "maps")):
        assert (tmp_path / first / "a.tif").read_bytes() == (
            tmp_path / second / "a.tif"
        ).read_bytes()
        assert [path.name for path in (tmp_path / second).iterdir()] == ["a.tif"]


def test_a_map_and_a_result_never_share_a_file(tmp_path):
    model = pf.train(scenes(2, 0, 20), clean=scenes(2, 1), steps=2, settings=TINY)
    save_image(Image(scenes(1, 3, 20)[0], "YX", family="tiff"), tmp_path / "in/a.tif")
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=r"a\.tif: would be a denoised image and a disagreement map"
        ):
            pf.denoise(
                model,
                tmp_path / "in",
                tmp_path / "out",
                disagreement=tmp_path / "in/../out",
                overwrite=overwrite,
            )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["iscl", *RIVALS])
def test_a_window_is_what_is_learned_and_the_rest_comes_through(key):
    """Beyond the window only the pixels that a network cannot show are left alone.

    Their part beyond it comes back exactly.
    """
    given = {"clean": scenes(2, 1), **({"noise_images": scenes(2, 5, 20)} if key == "quan" else {})}
    settings = {**RIVALS.get(key, TINY), "intensity": "80,120"}
    model = pf.train(scenes(2, 0, 20), method=key, steps=4, settings=settings, **given)
    assert (model.predictor.normalizer.offset, model.predictor.normalizer.scale) == (80.0, 40.0)
    image = scenes(1, 3, 20)[0].astype(np.float64)
    beyond = image - image.clip(80, 120)
    np.testing.assert_allclose(
        model.denoise(image) - model.denoise(image.clip(80, 120)), beyond, atol=1e-3
    )
    assert model.warn_of_intensities(Image(image - 500, "YX")) == []


def test_a_window_that_is_none_is_refused():
    for text in ("240,-160", "1,2,3", "a,b", "nan,1", "wide"):
        with pytest.raises(ConfigError, match='or a window "LOW,HIGH"'):
            resolve(
                Order(
                    scenes(2, 0, 20),
                    clean=scenes(2, 1),
                    steps=2,
                    settings={**TINY, "intensity": text},
                )
            )


@pytest.mark.parametrize("key", ["iscl", "cyclegan", "uidnet", "gcbd", "dncnn-b"])
@pytest.mark.parametrize("text", ["comon", "240,-160", "1,2,3", ""])
def test_an_intensity_that_means_nothing_is_refused(key, text):
    with pytest.raises(
        ConfigError,
        match=r'intensity = .* must be one of auto, common, separate, or a window "LOW,HIGH"',
    ):
        resolve(
            Order(
                scenes(2, 0, 5),
                clean=scenes(2, 1),
                method=key,
                steps=10,
                settings={"intensity": text},
            )
        )
