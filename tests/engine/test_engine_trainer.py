"""The loop: plans that add up, divergence refused before the weights change, signals, silence."""

import json
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pairfree as pf
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.engine import checkpoint, trainer
from pairfree.engine.plan import LOGGED_POINTS, REFITS, Clock, Plan, plan_steps
from pairfree.engine.run import RunFolder, environment
from pairfree.errors import ConfigError, DivergedError, InputError
from pairfree.methods import METHODS, PRESETS, build_method
from pairfree.methods.base import Method, Needs, Stage, update
from pairfree.training.job import resolve
from pairfree.training.order import Order

TINY = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}


def images(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(1000, 60, (24, 36)).astype(np.uint16) for _ in range(2)]


def train(method="n2v", **how):
    return pf.train(
        images(), method=method, **{"settings": TINY, "report": False, "seed": 1, **how}
    )


class Stages(Method):
    """Only stages, for plans."""

    key, title, needs, citation, assumption = "stages", "", Needs.NOISY, "", ""

    def __init__(self, shares):
        self.shares = shares

    def stages(self):
        return tuple(Stage(str(number), share) for number, share in enumerate(self.shares))

    step = denoise = denoiser = None


@given(weights=st.lists(st.floats(0.001, 1), min_size=1, max_size=6), extra=st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_plan_steps_adds_up_and_each_stage_gets_a_step(weights, extra):
    steps = len(weights) + extra
    plan = plan_steps(Stages([weight / sum(weights) for weight in weights]), steps)
    assert plan.total == steps
    assert min(count for _, count in plan.stages) >= 1
    assert [name for name, _ in plan.stages] == [str(number) for number in range(len(weights))]


def test_plan_steps_refuses_fewer_steps_than_stages():
    with pytest.raises(ConfigError, match="2 stages"):
        plan_steps(Stages([0.5, 0.5]), 1)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_every_step_of_a_plan_has_its_place(lengths):
    plan = Plan(tuple((str(number), length) for number, length in enumerate(lengths)))
    places = [plan.at(0, step) for step in range(plan.total)]
    assert [(at.stage, at.stage_step) for at in places] == [
        (str(n), k) for n, length in enumerate(lengths) for k in range(length)
    ]
    assert all(0 <= at.progress < 1 for at in places)
    with pytest.raises(IndexError):
        plan.at(0, plan.total)


@pytest.mark.parametrize("key", ["iddp", "nb2nb"])
def test_timing_leaves_the_method_untouched(key):
    """The timing happens on a copy: weights and optimiser are bit-identical before and after."""
    config = type(PRESETS[key]["cpu"])(**{**vars(PRESETS[key]["cpu"]), **TINY})
    method = build_method(key, config, 1)
    data = TrainingData(
        PatchPool([np.random.default_rng(0).random((1, 40, 40), np.float32)], "cpu", 16)
    )
    method.prepare(data, 0)
    before = {name: tensor.clone() for name, tensor in method.tensors().items()}
    plan = Clock.start(method, data, 0.02, 0).plan(method)
    after = method.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [name for name, _ in plan.stages] == [stage.name for stage in method.stages()]


def test_the_first_plan_pays_for_the_timing():
    """80 of 100 s are left for steps: 20 for the first stage at 0.25 s each, 60 for the other at 0.125 s."""
    clock = Clock(100.0, [0.25, 0.75], [[0.125, 0.375], [0.125, 0.125]], planned_s=20.0)
    assert clock.plan(Stages([0.25, 0.75])).stages == (("0", 80), ("1", 480))
    assert clock.used_s == 20.0


@pytest.mark.parametrize("slow", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("wave", [0.0, 0.3])
@pytest.mark.parametrize("busy", [1.0, 12.0, 0.3])
def test_minutes_are_kept_when_the_machine_changes_its_pace(slow, wave, busy):
    """Two stages, the second half of the first dearer, end within 2 % of their time.

    The machine is ``slow`` times as slow as timed, and swings, and was ``busy`` with other things
    when the second stage was timed.
    """
    method = build_method("iddp", PRESETS["iddp"]["cpu"], 1)
    clock = Clock(
        600.0, [0.45, 0.55], [[0.057, 0.116], [0.086 * busy, 0.086 * busy]], planned_s=4.0
    )
    plan, true = clock.plan(method), [[0.057, 0.116], [0.086, 0.086]]
    done, first_ends, progress = 0, 0.0, 0.0
    while done < plan.total:
        at = plan.at(0, done)
        stage = [name for name, _ in plan.stages].index(at.stage)
        seconds = true[stage][at.progress >= 0.5] * slow * (1 + wave * np.sin(clock.spent_s / 40))
        done += 1
        if clock.tick(plan, at, seconds) and done < plan.total:
            plan = clock.refit(plan, done)
        first_ends = clock.spent_s if stage == 0 else first_ends
        progress = at.progress
    assert clock.used_s == pytest.approx(600, rel=0.02)
    assert clock.used_s == clock.planned_s + clock.spent_s
    assert first_ends + clock.planned_s == pytest.approx(270, rel=0.04)
    assert progress > 0.999  # the schedule has run out
    assert done == plan.total


def test_a_late_first_step_does_not_end_a_run():
    """A delay of a tenth of the budget in the first step: the plan recovers."""
    method = build_method("iddp", PRESETS["iddp"]["cpu"], 1)
    clock = Clock(60.0, [0.2, 0.8], [[0.02, 0.02], [0.3, 0.3]])
    plan, done = clock.plan(method), 0
    while done < plan.total:
        at = plan.at(0, done)
        seconds = 6.0 if done == 0 else clock.paces[at.stage == plan.stages[1][0]][0]
        done += 1
        if clock.tick(plan, at, seconds) and (done < plan.total or clock.much_left()):
            plan = clock.refit(plan, done)
    assert clock.spent_s == pytest.approx(60, rel=0.05)


def test_a_last_stage_that_was_planned_too_short_goes_on():
    clock = Clock(100.0, [1.0], [[50.0, 50.0]])
    plan = Plan((("a", 1),))
    assert clock.tick(plan, plan.at(0, 0), 0.1)
    assert clock.much_left()
    assert clock.refit(plan, 1).total > 10


def test_a_refit_leaves_what_is_over_and_never_cuts_what_is_done():
    clock = Clock(10.0, [0.5, 0.5], [[1.0, 1.0], [1.0, 1.0]], spent_s=40.0, foretold_s=8.0)
    plan = Plan((("a", 5), ("b", 5)))
    assert clock.refit(plan, 8).stages == (("a", 5), ("b", 4))
    assert clock.refit(plan, 2).stages == (("a", 3), ("b", 1))
    assert max(REFITS) < 1


@pytest.mark.parametrize(
    "change",
    [
        {"budget_s": 0},
        {"spent_s": "x"},
        {"paces": [[1.0]]},
        {"paces": []},
        {"shares": 3},
        {"foretold_s": float("nan")},
        {"x": 1},
        *({"stages_s": [[1.0, 2.0]] * 2}, {"stages_s": [[1.0]]}),
    ],
)
def test_a_clock_comes_back_and_nothing_else_does(change):
    values = Clock(10.0, [1.0], [[1.0, 2.0]], 0.5, 3.0, 2.0).as_dict()
    assert Clock.from_dict(values).as_dict() == values
    with pytest.raises(ValueError, match="no clock"):
        Clock.from_dict({**values, **change})


@pytest.mark.parametrize("key", ["iddp", "nb2nb"])
def test_minutes_are_kept(key, monkeypatch):
    """By a clock on which a step takes 20 ms: of the 150 that 3 s hold some are spent on timing them."""
    clock, batch, taken = [100.0], TrainingData.batch, []

    def timed_batch(self, *arguments):
        clock[0] += 0.02
        taken.append(clock[0])
        return batch(self, *arguments)

    monkeypatch.setattr(TrainingData, "batch", timed_batch)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    model = train(key, minutes=0.05)
    steps = sum(count for _, count in model.record.plan.stages)
    assert 140 <= len(taken) <= 160
    assert 100 <= steps < len(taken)


@pytest.mark.parametrize(
    "budget",
    [
        {"minutes": 0},
        {"minutes": -1},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"steps": 0},
        {"steps": -3},
    ],
)
def test_no_budget_is_refused(budget, tmp_path):
    with pytest.raises(ConfigError, match="budget"):
        train(out=tmp_path / "run", **budget)
    assert not (tmp_path / "run").exists()


# -- R18 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["iddp", "nb2nb", "n2v"])
def test_an_absurd_rate_diverges_and_leaves_a_good_checkpoint(method, tmp_path):
    """lr 1e20: DivergedError (exit 3) names step, network and the last good checkpoint.

    That checkpoint loads and is finite.
    """
    run = tmp_path / "run"
    with pytest.raises(DivergedError) as refused:
        train(method, steps=50, settings={**TINY, "lr": 1e20}, out=run)
    assert refused.value.exit_code == 3
    found, problems = checkpoint.load_latest(run / "checkpoints")
    assert problems == []
    assert str(checkpoint.listing(run / "checkpoints")[-1]) in str(refused.value)
    assert "network 'net'" in str(refused.value)
    assert all(torch.isfinite(tensor).all() for tensor in found.tensors.values())
    assert RunFolder(run).read_events()[-1]["event"] == "diverged"
    assert np.isfinite(pf.load(run).denoise(images()[0].astype(np.float32))).all()


class Poisoned(METHODS["nb2nb"]):
    """Neighbor2Neighbor whose gradient or loss turns NaN at step 3."""

    key = "poisoned"
    poison = "gradient"

    def __init__(self, channels, device):
        super().__init__(
            type(PRESETS["nb2nb"]["cpu"])(**{**vars(PRESETS["nb2nb"]["cpu"]), **TINY}),
            channels,
            device,
        )

    def step(self, batch, at):
        self.before = {name: tensor.clone() for name, tensor in self.tensors().items()}
        if at.step != 3:
            return super().step(batch, at)
        weight = next(self.net.parameters())
        if self.poison == "gradient":
            handle = weight.register_hook(lambda gradient: gradient * float("nan"))
            try:
                return super().step(batch, at)
            finally:
                handle.remove()
        update(self.optimizers["net"], weight.sum() * float("inf"), at, "net")
        return {}


@pytest.mark.parametrize("poison", ["gradient", "loss"])
def test_a_non_finite_gradient_stops_before_the_weights_change(poison, monkeypatch, tmp_path):
    """At the very step: weights and moments are those of the step before, bit by bit."""
    monkeypatch.setattr(Poisoned, "poison", poison)
    method = Poisoned(1, torch.device("cpu"))
    with pytest.raises(DivergedError, match=f"non-finite {poison} at step 3"):
        pf.train(images(), method=method, steps=6, out=tmp_path / "run", report=False)
    assert all(
        torch.equal(tensor, method.before[name]) for name, tensor in method.tensors().items()
    )


# -- R17 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_training_pixels_are_refused_before_step_one(bad, tmp_path):
    """File, plane and count are named; no run folder appears."""
    stack = np.random.default_rng(0).normal(0, 1, (3, 20, 20)).astype(np.float32)
    stack[1, 4, 5] = stack[1, 6, 7] = bad
    path = tmp_path / "scan.tif"
    import tifffile

    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match=r"scan\.tif\[1\]: 2 of 400 pixels are NaN or Inf"):
        pf.train(path, method="n2v", steps=2, settings=TINY, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- R20, training side --------------------------------------------------------------------------------------

DEGENERATE = {
    "1xN": [np.arange(40).reshape(1, 40)],
    "smaller than a patch": [np.random.default_rng(0).integers(0, 99, (5, 7))],
    "two-valued": [np.indices((21, 19)).sum(0) % 2 * 200],
    "3 slices": np.random.default_rng(0).integers(0, 99, (3, 18, 20)),
    "one blank among good": [
        np.zeros((20, 20)),
        np.random.default_rng(0).integers(0, 99, (20, 20)),
    ],
    "mixed shapes": [
        np.random.default_rng(0).integers(0, 99, (20, 20)),
        np.random.default_rng(1).integers(0, 99, (33, 9)),
    ],
}


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64", ">u2", ">f4"]
)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_images_train_and_denoise(name, dtype):
    """Every method's ancestor (n2v) takes any size and type.

    The result is finite, of the same shape and type.
    """
    noisy = [np.asarray(one).astype(dtype) for one in DEGENERATE[name]]
    model = pf.train(noisy, method="n2v", steps=2, settings=TINY, report=False)
    for one in noisy:
        done = model.denoise(one)
        assert (done.shape, done.dtype) == (one.shape, one.dtype)
        assert np.isfinite(done.astype(np.float64)).all()


@pytest.mark.parametrize("value", [0, 7, 65535])
@pytest.mark.parametrize("shape", [(1, 1), (20, 20)])
def test_constant_images_are_refused(value, shape):
    with pytest.raises(InputError, match="constant"):
        pf.train(np.full(shape, value, np.uint16), method="n2v", steps=2, settings=TINY)


@pytest.mark.parametrize("method", ["iddp", "n2v", "nb2nb"])
def test_a_report_of_tiny_or_odd_images_does_not_fail(method, tmp_path, caplog):
    """Too small for evidence: the report is written all the same."""
    noisy = [
        np.arange(6, dtype=np.uint16).reshape(1, 6),
        np.zeros((1, 1), np.uint16),
        np.random.default_rng(0).normal(9, 2, (40, 33)).astype(np.uint16),
    ]
    pf.train(noisy, method=method, steps=3, settings=TINY, out=tmp_path / "run")
    assert "<html" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert [record.getMessage() for record in caplog.records] == [
        "noisy image 1: all pixels are 0; nothing to learn from it"
    ]


def test_a_failed_report_does_not_cost_the_model(tmp_path, monkeypatch, caplog):
    """Whatever goes wrong while drawing: the trained model is returned and saved.

    One line says that there is no report.
    """

    def broken(*_):
        raise ZeroDivisionError("no\npicture")

    monkeypatch.setattr("pairfree.training.report.write_run_report", broken)
    model = train(steps=3, out=tmp_path / "run", report=True)
    assert "no report (ZeroDivisionError: no picture)" in caplog.text
    np.testing.assert_array_equal(
        pf.load(tmp_path / "run").denoise(images()[0]), model.denoise(images()[0])
    )


# -- signals, logs -------------------------------------------------------------------------------------------


def test_signal_handlers_are_restored(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(steps=2, out=tmp_path / "run")
    with pytest.raises(DivergedError):
        train(steps=50, settings={**TINY, "lr": 1e20})
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_training_in_a_thread_works(tmp_path):
    """Only the main thread may take signals; elsewhere they are left alone."""
    import threading

    done = []
    worker = threading.Thread(target=lambda: done.append(train(steps=2, out=tmp_path / "run")))
    worker.start()
    worker.join()
    assert done[0].record.step == 2


def test_a_long_run_logs_a_bounded_number_of_points():
    for total in (1, 499, 500, 1234, 10**6):
        plan = Plan((("train", total),))
        assert total // plan.log_every <= 2 * LOGGED_POINTS


def test_checkpoints_come_at_the_set_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0)
    seen = []
    run = tmp_path / "run"
    train(
        steps=4,
        out=run,
        on_step=lambda *_: seen.append(int(checkpoint.listing(run / "checkpoints")[-1].stem[5:])),
    )
    assert seen == [0, 1, 2, 3]
    assert [path.stem[5:] for path in checkpoint.listing(run / "checkpoints")] == [
        "000000003",
        "000000004",
    ]


def test_environment_and_config_say_what_a_number_needs(tmp_path):
    """config.toml holds every setting by value.

    Environment.json the versions, processor, threads and date.
    """
    run = tmp_path / "run"
    train(steps=2, out=run)
    stored = RunFolder(run).read_config()
    assert stored["settings"].items() >= TINY.items()
    assert stored["seed"] == 1
    assert stored["stage_steps"] == [2]
    facts = json.loads((run / "environment.json").read_text())
    software = {"date", "pairfree", "torch", "numpy"}
    hardware = {"processor", "threads", "device", "precision"}
    assert facts.keys() >= software | hardware
    assert environment(torch.device("cpu"), "float32")["torch"] == torch.__version__


def test_dry_resolution_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolve(Order(images(), method="n2v", steps=3, settings=TINY))
    assert list(tmp_path.iterdir()) == []


def test_a_caller_may_stop_a_run_and_let_it_go_on(tmp_path):
    """A step function that returns True: what stands then is what an uninterrupted run passes through."""
    with pytest.raises(trainer.Stopped):
        train(out=tmp_path / "run", steps=6, on_step=lambda done, total, stage, loss: done == 3)
    assert pf.load(tmp_path / "run").record.step == 3
    stopped = pf.train(out=tmp_path / "run", noisy=images(), resume=True, report=False)
    whole = train(out=tmp_path / "whole", steps=6)
    image = images(3)[0]
    np.testing.assert_array_equal(stopped.denoise(image), whole.denoise(image))
