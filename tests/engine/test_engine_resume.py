"""R1: a run that was stopped and resumed is the run that was never stopped, bit by bit."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.engine import checkpoint
from pairfree.engine.plan import Plan
from pairfree.engine.run import RunFolder
from pairfree.engine.trainer import Stopped
from pairfree.errors import CheckpointError, ConfigError, InputError, OutputError
from pairfree.methods import METHODS as METHODS_BY_KEY

TINY = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}
METHODS = ["iddp", "n2c", "n2n", "n2v", "nb2nb"]
STEPS = 8


def images(seed=0, count=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(1000, 60, (20 + 8 * k, 36)).astype(np.uint16) for k in range(count)]


def data_for(method):
    return {"noisy": images(), "target": images(1) if method in ("n2c", "n2n") else None}


def stop_after(step):
    def on_step(done, total, stage, loss):
        if done == step:
            signal.raise_signal(signal.SIGINT)

    return on_step


def held(out):
    """The newest checkpoint of a run, its tensors in memory: files change in these tests."""
    found = checkpoint.load_latest(Path(out) / "checkpoints")[0]
    return dataclasses.replace(found, tensors=dict(found.tensors))


def uninterrupted(method, out, seed=3):
    pf.train(
        **data_for(method),
        method=method,
        steps=STEPS,
        settings=TINY,
        seed=seed,
        out=out,
        report=False,
    )
    return held(out)


def stopped_and_resumed(method, out, stops, seed=3):
    with pytest.raises(Stopped) as stopped:
        pf.train(
            **data_for(method),
            method=method,
            steps=STEPS,
            settings=TINY,
            seed=seed,
            out=out,
            report=False,
            on_step=stop_after(stops[0]),
        )
    assert stopped.value.exit_code == 130
    for stop in stops[1:]:
        with pytest.raises(Stopped):
            pf.train(
                **data_for(method), out=out, resume=True, report=False, on_step=stop_after(stop)
            )
    pf.train(**data_for(method), out=out, resume=True, report=False)
    return held(out)


def assert_same(first, second):
    assert first.step == second.step
    assert first.tensors.keys() == second.tensors.keys()
    assert any(name.startswith("opt/") for name in first.tensors)
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted(method, tmp_path):
    """Weights, optimiser moments and every logged loss are those of a run without stops.

    It is stopped after step 1 and inside (for iddp: across) the stages.
    """
    whole = uninterrupted(method, tmp_path / "whole")
    parts = stopped_and_resumed(method, tmp_path / "parts", [1, 5])
    assert_same(whole, parts)
    assert (tmp_path / "whole/events.jsonl").read_bytes() == (
        tmp_path / "parts/events.jsonl"
    ).read_bytes()
    assert [event["step"] for event in RunFolder(tmp_path / "parts").read_events()] == list(
        range(STEPS)
    )


def test_the_stage_boundary_is_where_iddp_was_stopped(tmp_path):
    """The stops of the test above lie on both sides of the boundary; one exactly on it is exact too."""
    whole = uninterrupted("iddp", tmp_path / "whole")
    boundary = whole.record.plan.stages[0][1]
    assert 1 < boundary < 5
    assert_same(whole, stopped_and_resumed("iddp", tmp_path / "parts", [boundary]))


def partners(key):
    """Images for any method: what it needs beside noisy ones."""
    needs = METHODS_BY_KEY[key].needs
    rng = np.random.default_rng(5)
    given = {"noisy": images()}
    if key == "gcbd":  # it cuts noise out of them
        given["noisy"] = [rng.normal(1000, 60, (272, 272)).astype(np.uint16)]
    if needs.target:
        given["target"] = images(1)
    if needs.clean:
        smooth = [np.kron(rng.integers(800, 1200, (6, 5)), np.ones((8, 8))) for _ in range(2)]
        given["clean"] = [one.astype(np.uint16) for one in smooth]
    if needs.noise:
        given["noise_images"] = [rng.normal(0, 60, (40, 40)).astype(np.float32) for _ in range(2)]
    return given


def run_any(key, out, small, stop=None, resume=False):
    """A tiny run of any method, to its end or to a stop."""
    options = {"resume": True}
    if not resume:
        settings = {
            name: value
            for name, value in dataclasses.asdict(small.config(key)).items()
            if name not in ("minutes", "steps", "started_minutes")
        }
        options = {"method": key, "settings": settings, "seed": 3, "start": "none"}
        if METHODS_BY_KEY[key].trains:
            options["steps"] = ALL_STEPS
    on_step = None if stop is None else stop_after(stop)
    try:
        pf.train(**partners(key), out=out, report=False, on_step=on_step, **options)
    except Stopped:
        assert stop is not None
    return held(out)


def differences(whole, parts, first, second):
    """What is not bit by bit as in the uninterrupted run."""
    found = [f"step {parts.step}"] if whole.step != parts.step else []
    found += sorted(whole.tensors.keys() ^ parts.tensors.keys())
    both = whole.tensors.keys() & parts.tensors.keys()
    found += [name for name in both if not torch.equal(whole.tensors[name], parts.tensors[name])]
    last = [RunFolder(run).read_events()[-20:] for run in (first, second)]
    return found + (["losses"] if last[0] != last[1] else [])


ALL_STEPS = 12
STOPS = (1, 3, 5, 8, 11)
"""After the first step, within and between the stages, and before the last step. An epoch of these images is
about 10 steps."""


@pytest.mark.nightly
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", [key for key in METHODS_BY_KEY if key != "bm3d"])
def test_any_method_resumes_bit_by_bit_from_five_stops(
    method, threads, tmp_path, small, record_property
):
    """The full count of R1: weights, averages, moments and the last 20 logged losses."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    failed, slowest = {}, 0.0
    try:
        whole = run_any(method, tmp_path / "whole", small)
        for stop in STOPS:
            out = tmp_path / str(stop)
            run_any(method, out, small, stop)
            begun = time.perf_counter()
            parts = run_any(method, out, small, resume=True)
            slowest = max(slowest, time.perf_counter() - begun)
            found = differences(whole, parts, tmp_path / "whole", out)
            failed |= {stop: found} if found else {}
    finally:
        torch.set_num_threads(before)
    record_property("stops", len(STOPS))
    record_property("failures", len(failed))
    record_property("slowest s", round(slowest, 2))
    assert failed == {}
    assert any(name.startswith("opt/") for name in whole.tensors) is METHODS_BY_KEY[method].trains


def test_resume_after_the_end_changes_nothing(tmp_path):
    """A finished run may be resumed: no step is done again."""
    whole = uninterrupted("n2v", tmp_path / "run")
    steps = []
    pf.train(
        **data_for("n2v"),
        out=tmp_path / "run",
        resume=True,
        report=False,
        on_step=lambda *about: steps.append(about),
    )
    assert steps == []
    assert_same(whole, checkpoint.load_latest(tmp_path / "run/checkpoints")[0])


def test_resume_falls_back_over_a_damaged_checkpoint_and_says_so(tmp_path, caplog):
    """The newest checkpoint is damaged: the one before is taken, with a word, and the result is the same."""
    run = tmp_path / "run"
    whole = uninterrupted("nb2nb", run)
    newest = checkpoint.listing(run / "checkpoints")[-1].with_suffix(".safetensors")
    newest.write_bytes(newest.read_bytes()[:-1])
    pf.train(**data_for("nb2nb"), out=run, resume=True, report=False)
    assert str(newest) in caplog.text
    assert any(event.get("event") == "damaged checkpoint" for event in RunFolder(run).read_events())
    assert_same(whole, checkpoint.load_latest(run / "checkpoints")[0])


def test_resume_reads_everything_from_the_run_folder(tmp_path, monkeypatch):
    """Files, a glob relative to the folder of that day, settings and budget come from the run.

    The caller may stand elsewhere.
    """
    (tmp_path / "data").mkdir()
    for number, image in enumerate(images()):
        np.save(tmp_path / f"data/{number}.npy", image)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped):
        pf.train(
            "data/*.npy",
            method="nb2nb",
            steps=4,
            settings=TINY,
            out=tmp_path / "run",
            report=False,
            on_step=stop_after(2),
        )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pf.train(out=tmp_path / "run", resume=True, report=False).record.step == 4


def test_resume_of_a_fine_tuned_run_keeps_its_intensity_map(tmp_path):
    """A run started from --init uses that run's normaliser.

    Resuming it does so too (and does not call the data changed).
    """
    uninterrupted("nb2nb", tmp_path / "first")
    other = [image + np.uint16(500) for image in images(5)]
    run = tmp_path / "second"
    with pytest.raises(Stopped):
        pf.train(
            other,
            init=tmp_path / "first",
            steps=4,
            settings=TINY,
            out=run,
            report=False,
            on_step=stop_after(2),
        )
    done = pf.train(other, out=run, resume=True, report=False)
    assert done.record.normalizer == pf.load(tmp_path / "first").record.normalizer


def test_resume_refuses_other_images(tmp_path):
    """One changed pixel: refused, with what to do."""
    with pytest.raises(Stopped):
        pf.train(
            images(),
            method="n2v",
            steps=4,
            settings=TINY,
            out=tmp_path / "run",
            report=False,
            on_step=stop_after(2),
        )
    changed = images()
    changed[0][3, 3] += 1
    with pytest.raises(InputError, match="not those the run began with"):
        pf.train(changed, out=tmp_path / "run", resume=True, report=False)


def test_resume_without_a_run(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        pf.train(out=tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="give `out`"):
        pf.train(images(), resume=True)


def test_a_run_killed_before_its_first_checkpoint_can_be_begun_again(tmp_path):
    """Nothing is lost, so the folder is not in the way; a folder with anything else in it is."""
    run = tmp_path / "run"
    uninterrupted("n2v", run)
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        pf.train(images(), out=run, resume=True, report=False)
    uninterrupted("n2v", run)
    assert len(RunFolder(run).read_events()) == STEPS


def test_events_of_repeated_steps_are_forgotten(tmp_path):
    """events.jsonl holds each step once, in order, also after a kill that left a half-written line."""
    run = RunFolder(tmp_path)
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(6)]
    run.events_path.write_text("\n".join(lines) + '\n{"step": 6, "lo', encoding="utf-8")
    assert [event["step"] for event in run.read_events()] == [0, 1, 2, 3, 4, 5]
    run.rewind(4)
    assert [event["step"] for event in run.read_events()] == [0, 1, 2, 3]
    assert run.events_path.read_bytes().endswith(b"}\n")


def test_a_resumed_run_notes_where_it_went_on(tmp_path):
    noisy = [np.random.default_rng(0).normal(100, 9, (24, 24)).astype(np.float32)]
    settings = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}
    pf.train(noisy, method="n2v", steps=2, settings=settings, out=tmp_path / "run", report=False)
    for _ in range(2):
        pf.train(noisy, out=tmp_path / "run", resume=True, report=False)
    told = RunFolder(tmp_path / "run").read_environment()["resumed"]
    assert told.count("at step 2: ") == 2
    assert torch.__version__ in told


def stage_models(run):
    return [path.name for path in run.glob("stages/*/checkpoints/step-*.json")]


def test_models_of_stages_that_are_done_again_are_forgotten(tmp_path):
    """The run goes back behind the end of a stage, whose model is of steps that are not done any more."""
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        pf.train(
            **data_for("iddp"),
            method="iddp",
            steps=STEPS,
            settings=TINY,
            out=run,
            report=False,
            on_step=stop_after(6),
        )
    assert len(stage_models(run)) == 1
    for file in checkpoint.listing(run / "checkpoints")[-1:]:
        file.unlink()
    with pytest.raises(Stopped):
        pf.train(**data_for("iddp"), out=run, resume=True, report=False, on_step=stop_after(1))
    assert stage_models(run) == []


def test_only_models_behind_the_step_are_forgotten(tmp_path):
    """What is no checkpoint stays; a folder of that name that cannot be removed is one line."""
    run = RunFolder(tmp_path)
    folder = run.stage_path("warm start") / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("step-000000002.json", "step-000000004.json", "step-x.json", "step-.json"):
        (folder / name).write_text("{}")
    run.drop_stages_after(3)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["step-.json", "step-000000002.json", "step-x.json"]
    (folder / "step-000000009.json").mkdir()
    with pytest.raises(OutputError, match="step-000000009"):
        run.drop_stages_after(3)


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "a/b", "a\0b", "\\\\host\\a"])
def test_the_name_of_a_stage_leads_nowhere_else(name, tmp_path):
    path = RunFolder(tmp_path).stage_path(name)
    assert path.parent == tmp_path / "stages"
    assert path.resolve().parent == (tmp_path / "stages").resolve()


def stopped_run(tmp_path):
    """Folder of a run that stopped after two of its four steps."""
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        pf.train(
            **data_for("n2v"),
            method="n2v",
            steps=4,
            settings=TINY,
            out=run,
            report=False,
            on_step=stop_after(2),
        )
    return run


def test_stages_that_the_method_does_not_have_are_refused(tmp_path):
    run = stopped_run(tmp_path)
    last, _ = checkpoint.load_latest(run / "checkpoints")
    record = dataclasses.replace(last.record, plan=Plan((("another", 3), ("train", 1))))
    checkpoint.save(run / "checkpoints", record, last.tensors)
    with pytest.raises(CheckpointError, match="has the stages"):
        pf.train(**data_for("n2v"), out=run, resume=True, report=False)


def test_damaged_notes_of_a_run_do_not_stop_it(tmp_path, caplog):
    """Each is told of in a line and kept under another name; what can be read of it is used."""
    run = stopped_run(tmp_path)
    first, second = (run / "events.jsonl").read_text().splitlines()
    (run / "events.jsonl").write_text(f'{first}\n{{"step": "x"}}\n{second}\n')
    (run / "environment.json").write_text("[1]")
    pf.train(**data_for("n2v"), out=run, resume=True, report=False)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert "events.jsonl: damaged, 1 of 3 lines are no events; kept as" in told[0]
    assert "environment.json: damaged, is no table" in told[1]
    events = RunFolder(run).read_events()
    assert [event["step"] for event in events] == [0, 1, 2, 3]
    assert RunFolder(run).read_environment()["torch"] == torch.__version__
    assert (run / "environment.json.damaged").read_text() == "[1]"


def test_a_damaged_config_is_refused_with_the_remedy(tmp_path, pairfree):
    run = tmp_path / "run"
    uninterrupted("n2v", run)
    (run / "config.toml").write_text('method = "n2v"\n')
    with pytest.raises(
        InputError, match=r"config.toml: damaged, field 'settings' is missing.*`init`"
    ):
        pf.train(**data_for("n2v"), out=run, resume=True, report=False)
    code, out, _ = pairfree("info", run)
    assert code == 0
    assert "field 'settings' is missing" in out
