"""The bench harness on an experiment of two tiny images: results, cache, resume, tables."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from pairfree import api
from pairfree.bench import (
    base,
    bsd68,
    cache,
    ct,
    ct_dose,
    em,
    em_real,
    fmd,
    harness,
    noisy_n2n,
    patches,
    pictures,
    scores,
    tables,
    wf,
)
from pairfree.bench.base import Cell, Experiment, Scored, Task, make_noisy, read_planes
from pairfree.bench.baselines import BASELINES, REVISIONS
from pairfree.engine.predictor import Predictor
from pairfree.errors import BusyError, ConfigError, DivergedError, InputError, MissingPackageError
from pairfree.files.image import Image
from pairfree.files.opening import open_image, save_image
from pairfree.measure.copula import fit_copula
from pairfree.methods import METHODS, PRESETS

TINY = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}
CELLS = [
    Cell("hum", "noisy", "cpu"),
    Cell("hum", "gaussian-filter", "cpu", settings={"sigma_px": 1.0}, label="gaussian 1 px"),
    *(Cell("hum", "iddp", "cpu", seed, settings={**TINY, "prior_batch": 1}) for seed in (0, 1)),
    Cell("hum", "n2c", "cpu", settings=TINY),
    Cell("hum", "n2n", "cpu", settings=TINY),
    Cell("hum", "dip", "cpu", settings={"levels": 1, "width": 4, "inputs": 2, "steps": 3}),
]
MINUTES = 0.005


def tiny_task(data, cell):
    rng = np.random.default_rng(5)
    clean = [
        rng.uniform(50, 200, (1, 1, 1)) + np.cumsum(rng.normal(0, 4, (1, 40, 33)), axis=2)
        for _ in range(2)
    ]
    noisy = [(image + rng.normal(0, 25, image.shape)).astype(np.float32) for image in clean]
    second = [(image + rng.normal(0, 25, image.shape)).astype(np.float32) for image in clean]
    test = [
        Scored(f"im{number}", noisy[number], clean[number], "ab"[number]) for number in range(2)
    ]
    return Task(noisy, test, [image.astype(np.float32) for image in clean], second)


TINY_EXPERIMENT = Experiment(
    "tiny",
    "Tiny",
    "PSNR of nothing much",
    lambda preset: CELLS,
    tiny_task,
    published={"iddp": {"hum": "99.99"}},
)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run cells of the tiny experiment; returns (table, what was said)."""
    monkeypatch.setitem(harness.EXPERIMENTS, "tiny", TINY_EXPERIMENT)

    def run(*only, **options):
        said = []
        options = {"minutes": MINUTES, "device": "cpu", **options}
        table = harness.run(
            "tiny", only=only, data=tmp_path, out=tmp_path / "results", say=said.append, **options
        )
        return table, said

    return run


def results(tmp_path):
    return {
        one["cell"]: one
        for one in (json.loads(p.read_text()) for p in (tmp_path / "results/tiny").glob("*.json"))
    }


def test_a_cell_leaves_all_that_a_reader_needs(bench, tmp_path):
    table, _ = bench("iddp")
    found = results(tmp_path)
    assert found.keys() == {"hum/iddp/cpu/seed0/0.005min", "hum/iddp/cpu/seed1/0.005min"}
    one = found["hum/iddp/cpu/seed1/0.005min"]
    assert one["seed"] == 1
    assert one["scores"].keys() == {"a", "b", "all"}
    assert one["scores"]["all"]["psnr_db"] == pytest.approx(
        (one["scores"]["a"]["psnr_db"] + one["scores"]["b"]["psnr_db"]) / 2, abs=1e-3
    )
    named = {"torch", "processor", "threads", "device", "precision", "date"}
    assert one["environment"].keys() >= named
    assert [name for name, _ in one["training"]["steps"]] == ["warm start", "iddp"]
    assert one["training"]["scores_after"]["warm start"].keys() == one["scores"].keys()
    assert one["training"]["config"]["width"] == 4
    assert one["training"]["seconds"] > 0
    assert "| iddp | 99.99 |" in table
    assert "iddp: after its warm start" in table
    assert "2 of 7 cells" in table
    assert one["training"]["minutes_given"] == MINUTES


def test_kept_images_give_the_score(bench, tmp_path):
    bench("gaussian")
    (one,) = results(tmp_path).values()
    folder = tmp_path / "runs/tiny" / replace(CELLS[1], minutes=MINUTES).slug / "denoised"
    values = []
    for image in tiny_task(None, CELLS[1]).test:
        kept = open_image(folder / f"{image.name}.tif").pixels
        values.append(
            peak_signal_noise_ratio(
                np.clip(image.clean[0], 0, 255), np.clip(kept.astype(float), 0, 255), data_range=255
            )
        )
    assert one["scores"]["all"]["psnr_db"] == pytest.approx(np.mean(values), abs=1e-3)
    assert one["training"] == {}


def test_that_a_method_refuses_the_images_is_a_result(bench, tmp_path, monkeypatch):
    """GCBD where no area is smooth: the table says so, and the cell is not tried again."""

    def refuse(*words, **named):
        raise InputError("no smooth area: 1 of 64")

    monkeypatch.setattr(api, "train", refuse)
    table, said = bench("n2c")
    assert said == ["[1/1] hum/n2c/cpu/seed0/0.005min: refused: no smooth area: 1 of 64"]
    assert "| refused: no smooth area: 1 of 64 |" in table
    _, said = bench("n2c")
    assert "measured before" in said[0]


def test_a_cell_that_diverges_leaves_the_others_measured(bench, tmp_path, monkeypatch):
    train = api.train

    def diverge(**named):
        if named["seed"] == 0:
            raise DivergedError("non-finite loss at step 3")
        return train(**named)

    monkeypatch.setattr(api, "train", diverge)
    with pytest.raises(
        DivergedError, match=r"diverged in hum/iddp/cpu/seed0/[^;]*; every other cell is measured"
    ):
        bench("iddp")
    assert results(tmp_path).keys() == {"hum/iddp/cpu/seed1/0.005min"}


def test_errors_are_drawn_beside_the_images(bench, tmp_path):
    bench("gaussian")
    slug = replace(CELLS[1], minutes=MINUTES).slug
    drawn = open_image(tmp_path / f"runs/tiny/{slug}/errors/im0.png").pixels
    kept = open_image(tmp_path / f"runs/tiny/{slug}/denoised/im0.tif").pixels
    error = np.abs(kept - tiny_task(None, CELLS[1]).test[0].clean[0])
    np.testing.assert_allclose(drawn.astype(float).sum(-1), np.minimum(error * 12, 765), atol=2)
    colours = pictures.heat_map(np.array([[[0.0, -21.25, 42.5, 63.75]]]), 255.0)[0]
    assert colours.tolist() == [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]]


def test_a_measured_cell_is_not_measured_again_and_a_changed_one_is(bench, tmp_path, monkeypatch):
    bench("n2c")
    _, said = bench("n2c")
    assert said == ["[1/1] hum/n2c/cpu/seed0/0.005min: measured before"]
    _, said = bench("n2c", minutes=2 * MINUTES)
    assert "dB" in said[0]
    assert len(results(tmp_path)) == 2  # a trial does not overwrite another
    monkeypatch.setattr(cache, "__version__", "9.9")
    _, said = bench("n2c", minutes=2 * MINUTES)
    assert "dB" in said[0]


def test_the_key_follows_data_and_settings():
    task, cell = tiny_task(None, CELLS[4]), CELLS[4]
    key = cache.cache_key(task, cell)
    assert key == cache.cache_key(tiny_task(None, cell), cell)
    task.test[0].clean[0, 0, 0] += 1e-9
    assert key != cache.cache_key(task, cell)
    other = Cell("hum", "n2c", "cpu", settings={**TINY, "lr": 1e-3})
    assert key != cache.cache_key(tiny_task(None, other), other)


def test_a_result_holds_while_its_config_is_what_it_was():
    """A new option at its default leaves measured cells measured; any other difference does not."""
    cell = CELLS[4]
    stored = cache.settings_of(cell)
    assert cache.same_settings(stored, cell)
    older = {name: value for name, value in stored.items() if name != "max_norm"}
    assert cache.same_settings(older, cell)
    assert not cache.same_settings(
        older, replace(cell, settings={**cell.settings, "max_norm": 7.0})
    )
    assert not cache.same_settings({**stored, "lr": 0.5}, cell)
    assert not cache.same_settings({**stored, "gone": 1}, cell)
    task = tiny_task(None, cell)
    key = cache.cache_key(task, cell)
    assert cache.holds({"key": key, "training": {"config": stored}}, task, cell)
    assert not cache.holds({"key": "b", "training": {"config": stored}}, task, cell)
    assert cache.holds({"key": cache.cache_key(task, CELLS[1]), "training": {}}, task, CELLS[1])
    grown = replace(cell, settings={**TINY, "max_norm": cache.settings_of(cell)["max_norm"]})
    spelt_out = {"key": cache.cache_key(task, grown), "training": {"config": older}}
    # Measured when the cell spelt the option out and its config did not have it yet.
    assert cache.holds(spelt_out, task, grown)
    image = Cell("hum", "dip", "cpu", minutes=2.0)
    assert (cache.settings_of(image)["minutes"], cache.settings_of(image)["steps"]) == (2.0, 0)


@pytest.mark.parametrize("place", [1, 4])
def test_a_method_that_gives_other_numbers_is_measured_anew(place, monkeypatch):
    cell, task = CELLS[place], tiny_task(None, CELLS[place])
    trained = (
        {"training": {"config": cache.settings_of(cell)}}
        if cell.method in METHODS
        else {"training": {}}
    )
    result = {"key": cache.cache_key(task, cell), **trained}
    assert cache.holds(result, task, cell)
    monkeypatch.setitem(REVISIONS, cell.method, 2)
    if cell.method in METHODS:
        monkeypatch.setattr(METHODS[cell.method], "revision", 2)
    assert not cache.up_to_date(result, cell)
    assert not cache.holds(result, task, cell)
    newer = {"key": cache.cache_key(task, cell), "revision": 2, **trained}
    assert newer["key"] != result["key"]
    assert cache.holds(newer, task, cell)


def test_a_new_option_that_a_cell_spells_out_leaves_it_measured():
    """Rows that list every difference from a preset list new options, too, at their old default."""
    old = Cell("hum", "n2c", "cpu", settings=TINY)
    new = replace(old, settings={**TINY, "max_norm": PRESETS["n2c"]["cpu"].max_norm})
    task = tiny_task(None, old)
    config = {name: value for name, value in cache.settings_of(old).items() if name != "max_norm"}
    stored = {"key": cache.cache_key(task, old), "training": {"config": config}}
    assert cache.holds(stored, task, new)
    assert not cache.holds(stored, task, replace(old, settings={**TINY, "max_norm": 7.0}))


def test_a_cell_that_another_process_measures_is_passed_over(bench, tmp_path):
    folder = tmp_path / "runs/tiny" / replace(CELLS[4], minutes=MINUTES).slug
    with harness._alone(folder):
        with pytest.raises(BusyError, match="in use by process"), harness._alone(folder):
            pass
        _, said = bench("n2")
    assert "passed over" in said[0]
    assert "in use by process" in said[0]
    assert "dB" in said[1]
    assert not folder.exists()
    assert "dB" in bench("n2c")[1][0]


def test_a_row_whose_package_is_missing_is_passed_over(bench, tmp_path, monkeypatch):
    def missing(noisy, settings):
        raise MissingPackageError("method bm3d needs the package bm3d")

    monkeypatch.setitem(BASELINES, "gaussian-filter", missing)
    _, said = bench("gaussian 1 px")
    assert said == [
        "[1/1] hum/gaussian 1 px/cpu/seed0/0.005min: passed over, method bm3d needs the package bm3d"
    ]
    assert results(tmp_path) == {}


def test_a_trained_row_with_wrong_settings_is_an_error(bench, monkeypatch):
    monkeypatch.setitem(CELLS[2].settings, "batch_size", 0)
    with pytest.raises(ConfigError):
        bench("iddp", seeds=[0])


@pytest.mark.parametrize("name", harness.EXPERIMENTS)
def test_what_trains_nothing_is_one_cell_for_all_presets(name):
    short, paper = (
        harness.cells_of(harness.EXPERIMENTS[name], preset) for preset in ("cpu", "paper")
    )
    assert {cell.name for cell in paper if cell.method in BASELINES} <= {
        cell.name for cell in short
    }
    assert {cell.preset for cell in paper if cell.method not in BASELINES} <= {"paper"}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_result_names_the_commit_of_its_code(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    file = tmp_path / "one.py"
    file.write_text("a = 1\n")
    git("init", "-q")
    assert harness.commit_of(file) is None  # not a file of the checkout
    git("add", "one.py")
    git("commit", "-qm", "one")
    assert harness.commit_of(file) == git("rev-parse", "HEAD")[:12]
    file.write_text("a = 2\n")
    assert harness.commit_of(file) == git("rev-parse", "HEAD")[:12] + "+"


def test_a_killed_cell_keeps_the_images_that_were_learned(bench, tmp_path, monkeypatch):
    predict, seen = Predictor.predict, []

    def one_a_process(self, noisy):
        seen.append(noisy)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return predict(self, noisy)

    monkeypatch.setattr(Predictor, "predict", one_a_process)
    with pytest.raises(KeyboardInterrupt):
        bench("dip")
    bench("dip")
    (result,) = results(tmp_path).values()
    task = tiny_task(None, CELLS[6])
    for one, number in zip(seen, (0, 1, 1), strict=True):
        np.testing.assert_array_equal(one, task.test[number].noisy)
    assert 0.3 <= result["training"]["seconds_an_image"] < 10
    assert result["scores"]["all"]["n"] == 2


def test_rows_with_older_settings_say_so():
    name, result = stored(0, 28.0)
    table = tables.markdown(TINY_EXPERIMENT, "cpu", CELLS, {name: result})
    assert "1,200 steps |" in table
    result["training"]["config"]["lr"] = 0.5
    table = tables.markdown(TINY_EXPERIMENT, "cpu", CELLS, {name: result})
    assert "1,200 steps, older settings |" in table


def test_a_killed_cell_goes_on(bench, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total, stage, loss):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        bench("n2c", on_step=kill)
    assert results(tmp_path) == {}
    firsts = []
    bench("n2c", on_step=lambda done, total, stage, loss: firsts.append(done))
    assert firsts[0] == 1  # the checkpoint of step 0 stood
    (one,) = results(tmp_path).values()
    # By the run's clock, which a resumed process goes on with.
    assert 0 < one["training"]["seconds"] < 10


def test_n2n_is_given_the_second_noisy_copy(bench, monkeypatch):
    seen = {}
    true_train = api.train

    def train(**options):
        seen[options["method"]] = options["target"]
        return true_train(**options)

    monkeypatch.setattr(api, "train", train)
    bench("n2")
    task = tiny_task(None, CELLS[5])
    np.testing.assert_array_equal(seen["n2n"][0], task.second_noisy[0])
    np.testing.assert_array_equal(seen["n2c"][0], task.clean[0])


def stored(seed, psnr, groups=("all",), threads=2, steps=1200):
    """One trained cell of CELLS as read_results gives it."""
    cell = CELLS[2 + seed]
    return cell.name, {
        "cell": cell.name,
        "scores": {group: {"psnr_db": psnr, "ssim": 0.5, "n": 2} for group in groups},
        "training": {
            "seconds": 60.0,
            "steps": [["train", steps]],
            "config": cache.settings_of(cell),
        },
        "environment": {"processor": "P", "threads": threads},
    }


def test_seeds_are_averaged_with_their_spread():
    table = tables.markdown(TINY_EXPERIMENT, "cpu", CELLS, dict([stored(0, 28.0), stored(1, 28.2)]))
    assert (
        "| iddp | 99.99 | 28.10 ± 0.14 / 0.5000 | 2 | 1.0 min, 1,200 steps | P, 2 threads |"
        in table
    )


def test_a_row_names_every_device_that_its_seeds_were_measured_on():
    table = tables.markdown(
        TINY_EXPERIMENT, "cpu", CELLS, dict([stored(0, 28.0), stored(1, 28.2, threads=1)])
    )
    assert table.count("| P, 2 threads; P, 1 thread |") == 1


def test_a_row_tells_the_least_and_the_most_steps_of_its_seeds():
    table = tables.markdown(
        TINY_EXPERIMENT, "cpu", CELLS, dict([stored(0, 28.0, steps=1300), stored(1, 28.2)])
    )
    assert "| 2 | 1.0 min, 1,200 to 1,300 steps | P, 2 threads |" in table


@pytest.mark.parametrize(
    ("groups", "shown"),
    [
        (("all",), "all"),
        (("all", "a"), "a"),
        (("a", "all", "b"), "a | all | b"),
        (("x", "y"), "x | y"),
    ],
)
def test_the_mean_of_all_is_shown_unless_it_is_that_of_the_only_group(groups, shown):
    table = tables.markdown(TINY_EXPERIMENT, "cpu", CELLS, dict([stored(0, 28.0, groups)]))
    assert f"| method | published | {shown} | seeds | training | device |" in table


@pytest.mark.parametrize("name", sorted(harness.EXPERIMENTS))
@pytest.mark.parametrize("preset", harness.BENCH_PRESETS)
def test_every_cell_of_every_experiment_can_be_built(name, preset):
    cells = harness.cells_of(harness.EXPERIMENTS[name], preset)
    assert len({cell.name for cell in cells}) == len({cell.slug for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.method in METHODS or cell.method in BASELINES
        if cell.method not in BASELINES:
            assert cache.settings_of(cell).items() >= dict(cell.settings).items()


def test_a_budget_of_an_experiment_is_that_of_its_trained_cells():
    cells = harness.cells_of(harness.EXPERIMENTS["wf"], "cpu")
    assert {
        cache.settings_of(cell)["minutes"] for cell in cells if cell.method not in BASELINES
    } == {5.0}
    assert all(
        "minutes" not in cell.settings
        for cell in harness.cells_of(harness.EXPERIMENTS["wf"], "paper")
    )
    fmd = harness.cells_of(harness.EXPERIMENTS["fmd"], "cpu")
    n2v = [cell for cell in fmd if cell.method == "n2v"]
    assert {cache.settings_of(cell)["minutes"] for cell in n2v} == {10.0}


@pytest.fixture
def data(tmp_path):
    """A folder of data sets, each of a few small images."""
    rng = np.random.default_rng(0)
    for folder, count in {
        "natural/bsd400": 4,
        "natural/bsd68": 2,
        "fluo/w2s/avg1": 2,
        "fluo/fmd/raw": 3,
    }.items():
        for number in range(count):
            beginning = ("WideField_" if number else "Confocal_") if folder.endswith("raw") else ""
            pixels = rng.integers(0, 255, (40, 50)).astype(np.uint8)
            save_image(
                Image(pixels, "YX", family="png"), tmp_path / folder / f"{beginning}{number}.png"
            )
    for raw, averaged in (("fluo/w2s/avg1", "fluo/w2s/avg400"), ("fluo/fmd/raw", "fluo/fmd/gt")):
        for path in (tmp_path / raw).iterdir():
            half = (open_image(path).pixels // 2 + 10).astype(np.uint8)
            save_image(Image(half, "YX", family="png"), tmp_path / averaged / path.name)
    return tmp_path


def test_methods_that_learn_from_clean_images_never_see_the_scenes_twice(data):
    """BSD400 -> BSD68: half clean, half noisy for them, all noisy for the others.

    Partners are those of the noisy images.
    """
    clean = read_planes(data / "natural/bsd400", 1)
    gcbd, quan, iscl, alone = (
        bsd68.task(data, Cell("gaussian:sigma=25", method, "cpu"))
        for method in ("gcbd", "quan", "iscl", "n2v")
    )
    assert (len(gcbd.noisy), len(gcbd.unpaired)) == (2, 2)
    assert (len(alone.noisy), len(alone.unpaired)) == (4, 0)
    for noisy, partner in zip(gcbd.noisy, gcbd.clean, strict=True):
        assert np.std(noisy - partner) == pytest.approx(25, rel=0.05)
        assert not any(np.array_equal(partner, other) for other in gcbd.unpaired)
    for unpaired in (quan, iscl):
        np.testing.assert_equal(
            [*unpaired.noisy, *unpaired.unpaired], [*gcbd.noisy, *gcbd.unpaired]
        )
    assert [len(task.noise_images) for task in (gcbd, quan, iscl, alone)] == [0, 2, 0, 0]
    assert np.std(quan.noise_images) == pytest.approx(25, rel=0.05)
    assert not np.array_equal(quan.noise_images[0] - bsd68.MID_GREY, quan.noisy[0] - quan.clean[0])
    assert {image.name for image in alone.test} == {"0", "1"}
    assert not any(
        np.array_equal(image.clean, one) for image in alone.test for one in clean.values()
    )


def test_the_first_estimates_of_noisy_n2n_have_the_noise_their_row_says(data):
    for cell in noisy_n2n.cells("cpu"):
        task = noisy_n2n.task(data, cell)
        errors = np.stack(
            [
                one - clean
                for one, clean in zip(
                    task.second_noisy, read_planes(data / "natural/bsd400", 1).values(), strict=True
                )
            ]
        )
        assert errors.std() == pytest.approx(noisy_n2n.ESTIMATES[cell.row], rel=0.05)
        assert np.std(task.noise_images) == pytest.approx(25, rel=0.05)
        assert cache.settings_of(cell)["iterations"] == (
            1 if cell.row == noisy_n2n.CLEAN_ROW else 3
        )


def test_only_the_set_whose_sides_were_scaled_apart_is_brought_to_one_scale(data):
    for column, count in {"FMD wide-field": 2, "W2S": 2}.items():
        task = wf.task(data, Cell(column, "n2v", "cpu"))
        assert len(task.test) == count
        for image in task.test:
            gain = np.polyfit(image.noisy.astype(float).ravel(), image.clean.ravel(), 1)[0]
            assert gain == pytest.approx(1.0 if column == "W2S" else 0.5, abs=0.02)


def test_published_numbers_without_a_measured_one_have_a_table_of_their_own():
    cells = [
        Cell(column, "iddp", "cpu") for column in ("film, fold 0", "film, fold 1", "charge, fold 0")
    ]
    cells.append(Cell("film, fold 0", "n2v", "cpu"))
    texts = {
        "iddp": {"film": "30.0", "charge": "20.0"},
        "iddp: after its warm start": {"film": "19.0"},
        "n2v": {"film, fold 0": "25.0"},
    }
    experiment = replace(TINY_EXPERIMENT, published=texts)
    head, rule = "| method | film | charge | film, fold 0 |", "|---|---|---|---|"
    alone = [
        "| iddp | 30.0 | 20.0 |  |",
        "| iddp: after its warm start | 19.0 |  |  |",
        "| n2v |  |  | 25.0 |",
    ]
    lines = tables.markdown(experiment, "cpu", cells, {}).splitlines()
    assert lines[lines.index("Published, not measured here:") + 2 : -2] == [head, rule, *alone]
    measured = {**stored(0, 28.0)[1], "cell": cells[1].name}
    table = tables.markdown(experiment, "cpu", cells, {cells[1].name: measured})
    assert "| iddp | 30.0 | 28.00 / 0.5000 |" in table  # one fold is enough
    assert "| iddp |  | 20.0 |  |" in table
    assert "| iddp: after its warm start | 19.0 |  |  |" in table  # this one had no such stage
    measured["training"]["scores_after"] = {"warm start": measured["scores"]}
    table = tables.markdown(experiment, "cpu", cells, {cells[1].name: measured})
    assert "| iddp: after its warm start | 19.0 | 28.00 / 0.5000 |" in table
    assert table.count("warm start") == 1
    every = {cell.name: measured for cell in cells}
    assert "not measured here" not in tables.markdown(experiment, "cpu", cells, every)
    further = replace(experiment, no_cell={"s2s": {"film": "22.0"}})
    assert "| method | film |\n|---|---|\n| s2s | 22.0 |\n" in tables.markdown(
        further, "cpu", cells, every
    )


def test_published_rows_and_columns_are_rows_and_columns_of_the_table():
    for experiment in harness.EXPERIMENTS.values():
        cells = experiment.cells("cpu")
        columns = {cell.column for cell in cells} | {
            cell.column.partition(",")[0] for cell in cells
        }
        for row, texts in experiment.published.items():
            assert row.partition(": after its ")[0] in {cell.row for cell in cells}
            assert texts.keys() <= columns
        measured = {
            (cell.row, column)
            for cell in cells
            for column in (cell.column, cell.column.partition(",")[0])
        }
        assert not measured & {
            (row, column) for row, texts in experiment.no_cell.items() for column in texts
        }


def test_noise_is_drawn_once_and_copies_are_independent():
    clean = {"a": np.full((1, 64, 64), 100.0), "b": np.full((1, 64, 64), 100.0)}
    first, again, second = (
        make_noisy(clean, "gaussian:sigma=25", purpose)
        for purpose in ("train", "train", "second copy")
    )
    np.testing.assert_array_equal(first["a"], again["a"])
    draws = [image.ravel() - 100 for image in (first["a"], first["b"], second["a"])]
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.06
    stored = make_noisy({"a": np.full((1, 64, 64), 5.0)}, "gaussian:sigma=25", "train", clip=True)[
        "a"
    ]
    assert stored.dtype == np.uint8
    assert (stored == 0).mean() > 0.3


def test_fmd_columns_hold_what_the_paper_scores():
    assert fmd.belongs("Confocal_FISH_1", "confocal + two-photon MICE")
    assert fmd.belongs("TwoPhoton_MICE_3", "confocal + two-photon MICE")
    assert not fmd.belongs("TwoPhoton_BPAE_R_3", "confocal + two-photon MICE")
    assert not fmd.belongs("WideField_BPAE_B_1", "confocal + two-photon MICE")
    assert fmd.belongs("WideField_BPAE_B_1", "wide-field")
    assert not fmd.belongs("WideField_BPAE_B_1", fmd.HALF)


def test_fmd_scenes_that_are_tested_are_in_no_clean_set_and_copies_are_of_one_scene(tmp_path):
    rng = np.random.default_rng(0)
    for channel in "BGR":
        scene = rng.integers(0, 255, (8, 8)).astype(np.uint8)
        for number in (1, 2, 3):
            name = f"Confocal_BPAE_{channel}_{number}.png"
            save_image(Image(scene, "YX", family="png"), tmp_path / "fluo/fmd/gt" / name)
            save_image(
                Image(scene // 2 + np.uint8(number), "YX", family="png"),
                tmp_path / "fluo/fmd/raw" / name,
            )
    raw, truth = (
        list(read_planes(tmp_path / "fluo/fmd" / side, 1).values()) for side in ("raw", "gt")
    )
    tested, others = [0, 1, 2, 6, 7, 8], [3, 4, 5]
    for method, learned in {"iscl": tested, "iddp": tested, "n2c": others}.items():
        task = fmd.task(tmp_path, Cell(fmd.HALF, method, "cpu"))
        np.testing.assert_equal(task.noisy, [raw[one] for one in learned])
        np.testing.assert_equal(task.clean, [truth[one] for one in learned])
        np.testing.assert_equal([task.unpaired, len(task.second_noisy)], [[truth[3]], 0])
        np.testing.assert_equal([image.noisy for image in task.test], [raw[one] for one in tested])
        np.testing.assert_equal(
            [image.clean for image in task.test], [truth[one] for one in tested]
        )
    whole = fmd.task(tmp_path, Cell(fmd.COLUMNS[0], "n2n", "cpu"))
    np.testing.assert_equal(whole.second_noisy, [raw[one] for one in (1, 2, 0, 4, 5, 3, 7, 8, 6)])
    assert len(whole.test) == 9


@pytest.mark.parametrize(
    ("experiment", "column", "missing"),
    [
        (ct, "chest, fold 0", "covid_ny_sbu"),
        (ct, ct.MAYO, "covid_ny_sbu"),
        (ct_dose, ct.MAYO, "quarter"),
        (ct_dose, "phantom, dose 10 %", "lcd_phantom"),
    ],
)
def test_a_data_set_that_is_not_there_is_named(experiment, column, missing, tmp_path):
    with pytest.raises(
        InputError, match=rf"{missing}.*: holds no .*; this experiment needs that data set"
    ):
        experiment.task(tmp_path, Cell(column, "iscl", "cpu"))


def test_bad_choices_are_one_line(bench, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no cell matches"):
        bench("nothing like it")
    monkeypatch.delenv("PAIRFREE_DATA", raising=False)
    with pytest.raises(ConfigError, match="PAIRFREE_DATA"):
        harness.data_folder(None)
    with pytest.raises(InputError, match="no such data folder"):
        harness.data_folder(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="preset of bench"):
        bench(preset="papr")
    with pytest.raises(ConfigError, match="no budget"):
        bench(minutes=-1.0)
    with pytest.raises(ConfigError, match="did you mean 'bsd68'"):
        harness.run("bsd86", data=tmp_path)


def test_grey_images_are_refused_where_colour_is_needed(tmp_path):
    from pairfree.files.image import Image
    from pairfree.files.opening import save_image

    save_image(Image(np.zeros((8, 8), np.uint8), "YX", family="png"), tmp_path / "grey.png")
    with pytest.raises(InputError, match=r"grey\.png: is grey"):
        base.read_planes(tmp_path, 3)
    assert base.read_planes(tmp_path, 1)["grey"].shape == (1, 8, 8)


def test_ablations_stand_beside_a_row_that_differs_in_one_thing():
    cells = {
        cell.row: dict(cell.settings)
        for cell in bsd68.cells("cpu")
        if cell.row.startswith("iddp, ")
    }
    with_stop, without = cells["iddp, the paper's eq. 11"], cells["iddp, no stop-gradient"]
    assert {key for key in with_stop | without if with_stop.get(key) != without.get(key)} == {
        "stop_gradient"
    }


@pytest.mark.parametrize("preset", harness.BENCH_PRESETS)
def test_no_two_rows_of_a_table_of_iddp_are_the_same_training(preset):
    cells = [
        cell
        for cell in harness.cells_of(bsd68.EXPERIMENT, preset)
        if cell.method == "iddp" and cell.column == "gaussian:sigma=25"
    ]
    settings = [json.dumps([cache.settings_of(cell), cell.seed], sort_keys=True) for cell in cells]
    assert len(set(settings)) == len(settings) > 2


def test_a_preset_that_no_method_of_a_table_has_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="ablation: none of its methods has the preset 'paper-200k'"
    ):
        harness.run("ablation", preset="paper-200k", data=tmp_path, out=tmp_path / "results")


@pytest.mark.parametrize(("count", "fold"), [(30, 0), (30, 3), (12, 1), (7, 2)])
def test_folds_of_sections_do_not_overlap_and_their_halves_take_turns(count, fold):
    noisy, clean, test = em.split(count, fold)
    assert sorted([*noisy, *clean, *test]) == list(range(count))
    assert len(test) in (count // 4, -(-count // 4))
    assert 0 <= len(noisy) - len(clean) <= em.TURN
    assert test == list(range(test[0], test[-1] + 1))
    rest = sorted([*noisy, *clean])
    assert [index in noisy for index in rest] == [
        place // em.TURN % 2 == 0 for place in range(len(rest))
    ]


def test_every_section_is_tested_in_one_fold():
    tested = [index for fold in range(em.FOLDS) for index in em.split(30, fold)[2]]
    assert tested == list(range(30))


def test_a_run_is_scored_on_its_way_and_goes_on(bench, tmp_path, monkeypatch):
    """Probes leave the run what it is: their steps rise, and a killed one keeps what it found."""
    monkeypatch.setitem(harness.EXPERIMENTS, "tiny", replace(TINY_EXPERIMENT, probes=3))
    seen = []

    def kill(done, total, stage, loss):
        seen.append(done)
        if done > 0.35 * total:  # after the first of three probes, before the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench("n2c", on_step=kill, minutes=0.02)
    (folder,) = [one for one in (tmp_path / "runs/tiny").iterdir() if one.is_dir()]
    before = json.loads((folder / "probes.json").read_text())
    assert len(before) == 1
    bench("n2c", minutes=0.02)
    (one,) = results(tmp_path).values()
    found = one["training"]["scores_on_the_way"]
    assert found[0] == before[0]
    assert len(found) == 3
    steps = [probe["step"] for probe in found]
    assert steps == sorted(set(steps))
    assert steps[-1] < one["training"]["steps"][0][1]
    assert found[0]["scores"].keys() == one["scores"].keys()
    assert found[0]["seconds"] < found[-1]["seconds"] <= one["training"]["seconds"]


def test_evidence_stands_where_there_is_no_ground_truth(bench, tmp_path, monkeypatch):
    def task(data, cell):
        whole = tiny_task(data, cell)
        return replace(whole, test=[replace(image, clean=None) for image in whole.test])

    def evidence(test, outputs):
        return {
            "change, grey levels": float(
                np.mean([np.abs(o - i.noisy).mean() for i, o in zip(test, outputs, strict=True)])
            )
        }

    monkeypatch.setitem(
        harness.EXPERIMENTS, "tiny", replace(TINY_EXPERIMENT, task=task, evidence=evidence)
    )
    table, said = bench("gaussian")
    (one,) = results(tmp_path).values()
    assert one["scores"] == {}
    value = one["evidence"]["change, grey levels"]
    assert value > 5
    assert "| method | published | change, grey levels | seeds |" in table
    assert f"| {value:.3g} | 1 |" in table
    assert "change, grey levels" in said[0]


def test_windows_are_scored_and_part_of_the_key(bench, tmp_path, monkeypatch):
    cell = CELLS[0]
    plain = tiny_task(None, cell)
    windowed = replace(
        plain, test=[replace(image, low=60.0, data_range=100.0) for image in plain.test]
    )
    assert cache.cache_key(plain, cell) != cache.cache_key(windowed, cell)
    found = scores.score_groups(
        TINY_EXPERIMENT, windowed.test, [image.noisy for image in windowed.test]
    )
    clipped = [
        (np.clip(one - 60, 0, 100) for one in (image.clean[0], image.noisy[0].astype(float)))
        for image in windowed.test
    ]
    expected = np.mean(
        [peak_signal_noise_ratio(clean, noisy, data_range=100) for clean, noisy in clipped]
    )
    assert found["all"]["psnr_db"] == pytest.approx(expected, abs=1e-3)
    mixed = [windowed.test[0], plain.test[1]]
    assert scores.score_groups(TINY_EXPERIMENT, mixed, [image.noisy for image in mixed]).keys() == {
        "a",
        "b",
    }


def test_a_halo_is_how_much_darker_it_is_beside_the_particle():
    image = np.full((400, 2000), 150.0)
    assert em_real.halo_depth(image) == 0
    rows, columns = em_real.PARTICLE
    image[rows, columns.start - 100 : columns.stop + 100] = 120.0
    assert em_real.halo_depth(image) == 30.0


def test_an_experiment_without_denoising_has_numbers_of_its_own(tmp_path, monkeypatch):
    cells = [
        Cell("hum", "noisy", "cpu", settings={"rule": rule}, label=f"rule {rule}") for rule in "ab"
    ]
    counted = replace(
        TINY_EXPERIMENT,
        cells=lambda preset: cells,
        task=lambda data, cell: replace(tiny_task(data, cell), test=[]),
        statistics=lambda task, cell: {
            "images": len(task.noisy),
            "is b": cell.settings["rule"] == "b",
        },
    )
    monkeypatch.setitem(harness.EXPERIMENTS, "tiny", counted)
    said = []
    table = harness.run("tiny", data=tmp_path, out=tmp_path / "results", say=said.append)
    assert said == [
        "[1/2] hum/rule a/cpu/seed0: 2 images, 0 is b",
        "[2/2] hum/rule b/cpu/seed0: 2 images, 1 is b",
    ]
    assert "| method | published | images | is b | seeds |" in table
    assert "| rule b | - | 2 | 1 | 1 | none |" in table
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([0.12345], "0.123"),
        ([20000.0], "20,000"),
        ([-1234.4], "-1,234"),
        ([1.0, 2.0], "1.5 ± 0.7"),
    ],
)
def test_numbers_that_are_no_scores_are_short_and_plain(values, text):
    assert tables._mean_number(values) == text


def test_made_noise_is_compared_with_the_truth():
    rng = np.random.default_rng(0)
    white = fit_copula(rng.normal(0, 25, (200, 1, 64, 64)).astype(np.float32))
    like, unlike = (
        patches.likeness(white, column) for column in ("gaussian:sigma=25", "correlated:sigma=25")
    )
    assert like["std made"] == pytest.approx(25, rel=0.02)
    assert like["largest error of correlations"] < 0.01
    assert unlike["largest error of correlations"] == pytest.approx(0.18, abs=0.03)


def test_noise_patches_are_summed_up_beside_the_truth():
    rng = np.random.default_rng(0)
    found = patches.extract_noise([128 + rng.normal(0, 25, (1, 400, 400))])
    numbers = patches.summary(found, 25.0)
    assert numbers["median std"] == pytest.approx(25.0, rel=0.02)
    assert numbers["5th percentile"] < numbers["median std"] < numbers["95th percentile"]
    assert abs(numbers["lag-1 correlation"]) < 0.02


def test_averages_are_brought_to_the_scale_of_their_noisy_images():
    rng = np.random.default_rng(0)
    averaged = rng.uniform(0, 255, (1, 64, 64))
    noisy = 0.4 * averaged + 30 + rng.normal(0, 5, averaged.shape)
    assert np.abs(wf.on_its_scale(averaged, noisy) - (0.4 * averaged + 30)).max() < 1.0


def test_windows_of_ct_are_those_that_are_scored():
    windows = {
        cell.column: cell.settings["intensity"] for cell in ct.cells("cpu") if cell.method == "iscl"
    }
    assert windows == dict.fromkeys(ct.FOLDS, "-400,1000") | {ct.MAYO: "-160,240"}


@pytest.mark.parametrize("name", ct.INSERTS)
def test_inserts_lie_in_the_middle_of_their_regions(name):
    row, column, radius_px = ct.INSERTS[name]
    for centre in (row, column):
        region = ct.around(centre, radius_px)
        middle = (region.start + region.stop - 1) / 2
        assert abs(middle - centre) <= 0.5
        assert (region.stop - region.start) / 2 == pytest.approx(3 * radius_px, abs=1)


def test_patients_of_a_ct_fold_are_three_different_ones():
    for fold in range(3):
        assert len({ct.PATIENTS[(fold + turn) % 3] for turn in range(3)}) == 3
    assert not {name[:7] for name in ct.NOISY_PATIENTS} & set(ct.PATIENTS)


def test_faint_inserts_of_the_phantom_are_measured_on_the_mean_of_the_draws():
    """An output that is the object gives their contrasts, one of plain water nothing.

    Slices of patients have none.
    """
    truth = np.zeros((1, 128, 128))
    for number, contrast in enumerate(ct_dose.INSERTS_HU):
        truth[0, 20 + 24 * number : 26 + 24 * number, 60:66] = contrast
    draws = [
        Scored(str(n), truth.astype(np.float32), truth, ct_dose.PHANTOM_GROUP) for n in range(2)
    ]
    rough = np.random.default_rng(0).normal(0, 3, truth.shape)
    kept = ct_dose.inserts(draws, [truth + rough + 5, truth - rough + 5])
    assert list(kept.values()) == pytest.approx([14, 7, 5, 3], abs=1e-9)
    assert list(ct_dose.inserts(draws, [0 * truth, 0 * truth + 2]).values()) == [0, 0, 0, 0]
    assert ct_dose.inserts([Scored("a", truth, truth, "Mayo abdomen")], [truth]) == {}
