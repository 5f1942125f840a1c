"""Training is compared with its start and its earlier states, by the error without truth.

It ends early, or what was nearer to the truth is kept.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import pairfree
from pairfree.engine.plan import Plan
from pairfree.engine.trainer import Stopped
from pairfree.examination.compare import Comparison
from pairfree.training.job import Job, resolve
from pairfree.training.order import place_order
from pairfree.training.reviewing import FEWEST_STEPS, Review, plan_review

SIDE = 160
STEPS = FEWEST_STEPS


def noisy(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 4.0)
    scene = 100.0 + 40.0 * np.tanh(2.0 * rough / rough.std())
    return (scene + 20.0 * rng.standard_normal((SIDE, SIDE))).astype(np.float32)


def make_job(images=None, **options) -> Job:
    images = images if images is not None else [noisy(0), noisy(1)]
    given = {"noisy": images, "method": "iddp", "steps": STEPS, **options}
    return resolve(place_order(given, None))


def review_of(job: Job, done: int = 0, total: int = STEPS, **options) -> Review:
    found = plan_review(job, done, Plan((("iddp", total),)), lambda: None, **options)
    assert found is not None
    return found


def spoil(job: Job, by: float = 0.3) -> None:
    with torch.no_grad():
        for value in job.method.denoiser.parameters():
            value.mul_(by)


def test_an_untouched_start_is_as_good_as_itself_and_has_not_been_trained():
    job = make_job()
    review = review_of(job)
    assert review.compare().alike
    assert not review.keep_better()
    assert not review.ends(STEPS // 2, STEPS)


def test_where_nothing_is_gained_any_more_training_ends_from_the_half_on(caplog):
    caplog.set_level("DEBUG", logger="pairfree")
    job = make_job()
    review = review_of(job)
    spoil(job, 1.0 - 1e-5)
    assert not review.ends(STEPS // 4, STEPS)
    spoil(job, 1.0 - 1e-5)
    assert review.ends(STEPS // 2, STEPS)
    assert "nothing is gained" in caplog.text


def test_stages_are_not_looked_at_before_the_end():
    job = make_job()
    plan = Plan((("start", STEPS // 2), ("iddp", STEPS // 2)))
    review = plan_review(job, 0, plan, lambda: None)
    spoil(job)
    assert not review.ends(STEPS // 2, STEPS)
    assert review.keep_better() == "start kept"


def test_the_state_that_is_nearest_to_the_truth_is_kept(caplog):
    caplog.set_level("DEBUG", logger="pairfree")
    job = make_job(settings=SMALL)
    good = {name: value.clone() for name, value in job.method.weights().items()}
    spoil(job)
    kept = []
    start = {name: value.clone() for name, value in job.method.denoiser.state_dict().items()}
    review = Review(job, start, lambda: kept.append(1))  # begun from what is bad
    job.method.load_tensors(good, optimizers=False)
    assert not review.ends(STEPS // 4, STEPS)
    assert kept == [1]
    spoil(job)
    assert review.keep_better() == "earlier kept"
    assert "an earlier state is kept" in caplog.text
    for name, value in job.method.weights().items():
        assert torch.equal(value, good[name])


def test_a_run_that_goes_on_knows_its_earlier_state():
    job = make_job(settings=SMALL)
    good = {name: value.clone() for name, value in job.method.weights().items()}
    review = review_of(job, done=STEPS // 4, earlier=good)
    spoil(job)
    assert review.ends(STEPS // 2, STEPS)
    assert review.keep_better() == "earlier kept"
    for name, value in job.method.weights().items():
        assert torch.equal(value, good[name])


def test_what_is_worse_than_its_start_ends_at_the_next_quarter_and_the_start_is_kept(caplog):
    caplog.set_level("DEBUG", logger="pairfree")
    job = make_job()
    review = review_of(job)
    before = {name: value.clone() for name, value in job.method.denoiser.state_dict().items()}
    spoil(job)
    assert not review.ends(STEPS // 4 - 1, STEPS)
    assert review.ends(STEPS // 4, STEPS)
    assert not review.ends(STEPS // 4 + 1, STEPS), "once"
    assert review.keep_better() == "start kept"
    for name, value in job.method.denoiser.state_dict().items():
        assert torch.equal(value, before[name])
    assert "training ends after 50 of 200 steps: it moved away" in caplog.text
    assert "the network that it began from is kept" in caplog.text


def test_networks_train_on_as_they_did():
    job = make_job()
    for net in job.method.networks.values():
        net.train()
    review_of(job).compare()
    assert all(net.training for net in job.method.networks.values())


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, FEWEST_STEPS - 1),
        ({"start": "none"}, STEPS),
        ({"method": "iscl", "clean": [noisy(5)]}, STEPS),
    ],
)
def test_nothing_is_compared_where_it_cannot_tell(options, total):
    assert plan_review(make_job(**options), 0, Plan((("iddp", total),)), lambda: None) is None


def test_noise_of_no_known_law_is_not_compared():
    job = make_job([np.clip(noisy(seed), 80, 110) for seed in range(2)])
    spoil(job)
    assert review_of(job).compare() is None


def test_a_run_that_goes_on_behind_its_last_look_is_compared_at_the_end_alone():
    job = make_job()
    review = review_of(job, done=3 * STEPS // 4)
    spoil(job)
    assert not review.ends(3 * STEPS // 4 + 1, STEPS)
    assert review.keep_better() == "start kept"


SMALL = {"patch_px": 32, "batch_size": 2}
"""Too small for a grid to be taken off in the end."""
RUINED = {"lr": 0.5, "patch_px": 48, "batch_size": 2}


def run_of(tmp_path, name: str, stop_at: int | None = None, settings=None):
    """Eight steps that ruin the network; stopped behind one of them and gone on with, if asked."""
    out = tmp_path / name
    options = {
        "method": "iddp",
        "steps": 8,
        "out": out,
        "report": False,
        "settings": settings or RUINED,
    }
    images = [noisy(0), noisy(1)]
    if stop_at is None:
        return pairfree.train(images, **options)
    with pytest.raises(Stopped):
        pairfree.train(images, **options, on_step=lambda done, *rest: done == stop_at)
    return pairfree.train(images, out=out, resume=True, report=False)


def test_a_run_that_is_ended_stands_as_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr("pairfree.training.reviewing.FEWEST_STEPS", 4)
    model = run_of(tmp_path, "run")
    assert model.record.step == 2
    assert model.record.ending == "start kept"
    again = pairfree.load(tmp_path / "run")
    assert again.record.ending == "start kept"
    assert np.array_equal(again.denoise(noisy(3)), model.denoise(noisy(3)))
    start = pairfree.load("shipped").denoise(noisy(3))
    assert np.abs(again.denoise(noisy(3)) - start).mean() < 1.0
    assert "start kept" in (tmp_path / "run" / "events.jsonl").read_text()


@pytest.mark.parametrize("stop_at", [1, 2])
def test_stopped_anywhere_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr("pairfree.training.reviewing.FEWEST_STEPS", 4)
    whole = run_of(tmp_path, "whole")
    stopped = run_of(tmp_path, "stopped", stop_at)
    assert stopped.record.step == whole.record.step == 2
    assert stopped.record.ending == whole.record.ending
    assert np.array_equal(stopped.denoise(noisy(3)), whole.denoise(noisy(3)))


def test_images_without_anything_in_their_middle_are_not_compared():
    image = noisy()
    image[8:-8, 8:-8] = 100.0
    job = make_job([image, noisy(1)])
    assert review_of(job).compare() is not None
    assert review_of(make_job([image, image])).compare() is None


def test_an_earlier_state_outlives_a_stop(tmp_path, monkeypatch):
    """Better at the first look, ruined behind it: the same is kept whether the run was stopped or not."""
    monkeypatch.setattr("pairfree.training.reviewing.FEWEST_STEPS", 4)
    seen = compare_as(monkeypatch, [-1.0, 0.0, 0.0, 1.0])
    whole = run_of(tmp_path, "whole", settings=SMALL)
    assert whole.record.ending == "earlier kept"
    assert seen == []
    nearest = tmp_path / "whole" / "stages" / "nearest"
    kept = pairfree.load(nearest)
    assert kept.record.step == 2
    assert np.array_equal(kept.denoise(noisy(3)), whole.denoise(noisy(3)))
    compare_as(monkeypatch, [-1.0, 0.0, 0.0, 1.0])
    stopped = run_of(tmp_path, "stopped", 3, settings=SMALL)
    assert stopped.record.ending == "earlier kept"
    assert np.array_equal(stopped.denoise(noisy(3)), whole.denoise(noisy(3)))


def compare_as(monkeypatch, decibels: list[float]) -> list[float]:
    """What the looks find, one after the other; the list empties."""
    left = list(decibels)

    def compare(first, second, error) -> Comparison:
        return Comparison(left.pop(0), 9.0, 0.1)

    monkeypatch.setattr("pairfree.training.reviewing.compare_probes", compare)
    return left


@pytest.mark.parametrize("damage", ["cut", "words", "another seed", "a file"])
def test_a_damaged_earlier_state_is_left_out_with_a_word(tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setattr("pairfree.training.reviewing.FEWEST_STEPS", 4)
    compare_as(monkeypatch, [-1.0, 0.0, 0.0, -1.0])
    out, images = tmp_path / "run", [noisy(0), noisy(1)]
    options = {"method": "iddp", "steps": 8, "report": False, "settings": SMALL}
    with pytest.raises(Stopped):
        pairfree.train(images, out=out, **options, on_step=lambda done, *rest: done == 3)
    folder = out / "stages" / "nearest" / "checkpoints"
    words = next(folder.glob("*.json"))
    if damage == "cut":
        numbers = words.with_suffix(".safetensors")
        numbers.write_bytes(numbers.read_bytes()[:1000])
    elif damage == "words":
        words.write_text('{"a": 1}')
    elif damage == "a file":
        shutil.rmtree(folder)
        folder.write_text("")
    else:
        compare_as(monkeypatch, [-1.0, 0.0, 0.0, -1.0])
        pairfree.train(images, out=tmp_path / "other", seed=5, **options)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "other" / "stages" / "nearest" / "checkpoints", folder)
        kept = sorted(folder.glob("step-*2.*"))
        assert kept
    compare_as(monkeypatch, [0.0, 0.0, -1.0])
    model = pairfree.train(images, out=out, resume=True, report=False)
    assert model.record.step == 8
    if damage != "a file":
        assert "goes on without the earlier state" in caplog.text
