"""Folders of files against each other, from Python as from the command line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pairfree import denoise, evaluate, load
from pairfree.data.directions import Change
from pairfree.errors import ConfigError, InputError
from pairfree.evidence.metrics import mean_score, score
from pairfree.evidence.rows import Row
from pairfree.training.comparing import compare_results


@pytest.fixture
def folders(tmp_path):
    """Two scenes, clean, noisy and denoised."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :72]
    for name in ("clean", "noisy", "denoised"):
        (tmp_path / name).mkdir()
    for number in range(2):
        scene = 120 + 60 * np.sin(rows / (6 + number)) * np.cos(columns / 9)
        for name, spread in (("clean", 0), ("noisy", 20), ("denoised", 3)):
            image = np.clip(np.rint(scene + rng.normal(0, spread, scene.shape)), 0, 255).astype(
                np.uint8
            )
            tifffile.imwrite(tmp_path / name / f"{number}.tif", image)
    return tmp_path


def test_the_function_finds_what_the_verb_prints_and_writes(pairfree, folders):
    names = (
        "--denoised",
        "denoised",
        "--clean",
        "clean",
        "--noisy",
        "noisy",
        "--data-range",
        "255",
    )
    arguments = [folders / name if (folders / name).is_dir() else name for name in names]
    code, out, _ = pairfree("evaluate", *arguments, "--json", folders / "numbers.json")
    assert code == 0
    found = evaluate(folders / "denoised", folders / "clean", 255, noisy=folders / "noisy")
    numbers = found.as_dict()
    assert list(numbers) == ["scores", "scores_statement", "evidence", "rows"]
    for row, told in zip(
        found.rows, json.loads((folders / "numbers.json").read_text())["rows"], strict=True
    ):
        assert (told["name"], told["level"], told["text"]) == (row.name, row.level, row.text)
    undefined = [name for name, value in numbers["evidence"]["0"].items() if value != value]
    written = json.loads((folders / "numbers.json").read_text())
    assert written["scores"] == numbers["scores"]
    assert written["scores_statement"] == numbers["scores_statement"]
    assert [name for name, value in written["evidence"]["0"].items() if value is None] == undefined
    said = " ".join(out.split())
    assert found.scores_statement in said
    assert "mean of 2" in said
    assert all(" ".join(line.split()) in said for line in found.sentences)


def test_an_evaluation_is_the_mapping_of_its_scores(folders):
    found = evaluate(folders / "denoised", folders / "clean", 255.0, low=10.0)
    assert list(found) == ["0", "1"]
    assert len(found) == 2
    for name, one in found.items():
        images = [
            tifffile.imread(folders / folder / f"{name}.tif") for folder in ("clean", "denoised")
        ]
        assert one == score(*images, 255.0, 10.0)
    assert found.mean_score == mean_score(list(found.values()))
    assert found.mean_score.psnr_db == pytest.approx(
        np.mean([one.psnr_db for one in found.values()])
    )
    assert not found.evidence
    assert not found.sentences
    assert "clipped to 10 .. 265" in found.scores_statement


def test_evidence_alone_has_no_scores(folders):
    found = evaluate(folders / "denoised", noisy=folders / "noisy")
    assert list(found.as_dict()) == ["evidence", "rows"]
    assert list(found.evidence) == ["0", "1"]
    assert found.mean_score is None
    assert found.evidence["0"].std == pytest.approx(math.hypot(20, 3), rel=0.05)
    assert any("Brightness" in line for line in found.sentences)


def test_what_was_fitted_or_scored_otherwise_is_stated(folders):
    plain = evaluate(folders / "denoised", folders / "clean", 255)
    changed = evaluate(folders / "denoised", folders / "clean", 255, fit=True, luma=True)
    assert "fitted" not in plain.scores_statement
    assert "gain and offset of each denoised image fitted" in changed.scores_statement
    assert "luma (BT.601)" in changed.scores_statement


def test_images_too_small_for_evidence_are_said_to_be(tmp_path):
    for name in ("noisy", "denoised"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "0.tif", np.arange(400, dtype=np.uint16).reshape(20, 20))
    found = evaluate(tmp_path / "denoised", noisy=tmp_path / "noisy")
    assert found.evidence == {}
    assert [row.level for row in found.rows] == ["untold"]
    assert "too small for evidence" in found.sentences[0]


def test_what_is_missing_is_named(folders):
    with pytest.raises(ConfigError, match=r"`clean` .scores. or `noisy`"):
        evaluate(folders / "denoised")
    with pytest.raises(ConfigError, match="`data_range`"):
        evaluate(folders / "denoised", folders / "clean")
    tifffile.imwrite(folders / "denoised/1.tif", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"1\.tif"):
        evaluate(folders / "denoised", noisy=folders / "noisy")


def test_a_run_replaces_only_what_it_tells_better(tmp_path):
    """Rows that share noise cannot be examined: what files alone tell stays."""
    rng = np.random.default_rng(0)
    lines = 40.0 * rng.standard_normal((128, 1))
    noisy = 200.0 + lines + 10.0 * rng.standard_normal((128, 128))
    for name, pixels in (("noisy", noisy), ("denoised", noisy - noisy.mean(axis=1, keepdims=True))):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "0.tif", pixels.astype(np.float32))
    folders = {"denoised": tmp_path / "denoised", "noisy": tmp_path / "noisy"}
    alone = evaluate(**folders)
    beside = evaluate(**folders, run="shipped")
    assert beside.rows[0].name == "same files"
    assert beside.rows[0].level == "warning"
    assert beside.rows[1].level == "untold"
    assert [row.name for row in beside.rows[2:]] == [row.name for row in alone.rows]
    with pytest.raises(ConfigError, match="`quick`"):
        evaluate(**folders, quick=True)


def test_files_of_the_run_are_known_as_such(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "noisy").mkdir()
    pixels = (200.0 + 20.0 * rng.standard_normal((128, 128))).astype(np.float32)
    tifffile.imwrite(tmp_path / "noisy" / "0.tif", pixels)
    denoise("shipped", tmp_path / "noisy", tmp_path / "denoised")
    found = evaluate(tmp_path / "denoised", noisy=tmp_path / "noisy", run="shipped", quick=True)
    assert (found.rows[0].name, found.rows[0].level) == ("same files", "ok")
    assert found.rows[0].text == "The 1 of 1 files that were compared are what this run makes."
    assert "same files" not in str(evaluate(tmp_path / "denoised", noisy=tmp_path / "noisy"))


@pytest.fixture
def shipped_results(tmp_path) -> Path:
    """A folder with `noisy` and `denoised`, by the network that comes along; 16-bit, edges and noise."""
    rng = np.random.default_rng(0)
    scene = 300.0 + 100.0 * (np.add.outer(np.arange(128), np.arange(128)) // 32 % 2)
    (tmp_path / "noisy").mkdir()
    pixels = np.rint(scene + 40.0 * rng.standard_normal(scene.shape)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "noisy" / "0.tif", pixels)
    denoise("shipped", tmp_path / "noisy", tmp_path / "denoised")
    return tmp_path


def compare_with_shipped(folder: Path, change: Change | None = None) -> Row:
    return compare_results(load("shipped"), folder / "noisy", folder / "denoised", change)


def test_what_was_changed_after_the_run_is_told_and_where(shipped_results):
    """A seam of a twentieth of the noise, in one half: far less than the noise that was removed."""
    path = shipped_results / "denoised" / "0.tif"
    pixels = tifffile.imread(path)
    assert compare_with_shipped(shipped_results).level == "ok"
    pixels[96:, :32] += 6
    tifffile.imwrite(path, pixels)
    found = compare_with_shipped(shipped_results)
    assert found.level == "warning"
    assert "were changed after this run, in 6.2 % of their places" in found.text
    assert found.places[0].startswith("0, row ")
    row, column = (int(part.split()[-1]) for part in found.places[0].split(", ")[1:])
    assert row >= 96
    assert column < 32


@pytest.mark.parametrize("place", ["row", "spot", "last column"])
def test_small_changes_are_told_however_large_the_file(shipped_results, place):
    path = shipped_results / "denoised" / "0.tif"
    pixels = tifffile.imread(path)
    at = {
        "row": (50, slice(None)),
        "spot": (slice(60, 63), slice(70, 73)),
        "last column": (slice(None), -1),
    }[place]
    pixels[at] += 60
    tifffile.imwrite(path, pixels)
    found = compare_with_shipped(shipped_results)
    assert found.level == "warning"
    wanted = {"row": "row 48", "spot": "row 56, column 72", "last column": "column 120"}[place]
    if place == "spot":
        assert found.places[0] in ("0, row 56, column 64", "0, row 56, column 72")
    else:
        assert wanted in found.places[0]


def test_brighter_all_over_is_not_what_the_run_makes(shipped_results):
    path = shipped_results / "denoised" / "0.tif"
    tifffile.imwrite(path, tifffile.imread(path) + np.uint16(2))
    found = compare_with_shipped(shipped_results)
    assert "1 of the 1 of 1 files" in found.text
    assert "not what this run makes" in found.text


def test_what_is_missing_in_both_is_no_change(shipped_results):
    path = shipped_results / "noisy" / "0.tif"
    pixels = tifffile.imread(path).astype(np.float32)
    pixels[10:20, 30:40] = np.nan
    tifffile.imwrite(path, pixels)
    denoise("shipped", path.parent, shipped_results / "denoised", overwrite=True, nan="mask")
    model = load("shipped", nan="mask")
    folders = shipped_results / "noisy", shipped_results / "denoised"
    assert compare_results(model, *folders).level == "ok"
    filled = np.nan_to_num(tifffile.imread(shipped_results / "denoised" / "0.tif"))
    tifffile.imwrite(shipped_results / "denoised" / "0.tif", filled)
    found = compare_results(model, *folders)
    assert found.level == "warning"
    assert found.places == ("0, row 8, column 24",)


@pytest.mark.parametrize("option", ["symmetries", "change"])
def test_options_of_the_run_are_no_change(shipped_results, option):
    change = Change("fine detail", 0.2)
    model = (
        load("shipped", symmetries=True)
        if option == "symmetries"
        else load("shipped").corrected(change)
    )
    denoise(model, shipped_results / "noisy", shipped_results / "denoised", overwrite=True)
    found = compare_with_shipped(shipped_results, change if option == "change" else None)
    assert found.level == "ok"
    assert {"symmetries": "`symmetries`", "change": "`correct`"}[option] in found.text
