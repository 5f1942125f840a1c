"""The report on denoised files: what stands in it, what it replaces, and that it costs nothing unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import pairfree as pf
from pairfree import api
from pairfree.cli.main import app
from pairfree.errors import OutputError
from pairfree.scenes import draw_scene

run_cli = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three noisy files: grey, a stack and colour."""
    rng = np.random.default_rng(0)
    made = tmp_path / "noisy"
    made.mkdir()
    scene = 100.0 + 1000.0 * draw_scene(0, 0, height=96, width=128)
    noisy = rng.poisson(np.stack([scene, scene, scene])).astype(np.uint16)
    tifffile.imwrite(made / "grey.tif", noisy[0])
    tifffile.imwrite(made / "stack.tif", noisy, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(made / "colour.tif", np.moveaxis(noisy, 0, -1), photometric="rgb")
    return made


def page_of(out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_shipped_network_gives_the_report_of_a_run(folder, tmp_path):
    out = tmp_path / "out"
    done = run_cli.invoke(app, ["denoise", "shipped", str(folder), "--out", str(out), "--report"])
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    page = page_of(out)
    for words in (
        "The shipped network on 3 files",
        "stack.tif[1]",
        "grey.tif",
        "nothing was trained on these images",
        "exact unbiased inverse",
        "Achddou",
        "No grid of the network",
    ):
        assert words in page, words
    assert sorted(path.name for path in out.glob("*.tif")) == [
        "colour.tif",
        "grey.tif",
        "stack.tif",
    ]


def test_a_run_says_what_it_was_trained_for(folder, tmp_path):
    small = {"patch_px": 32, "batch_size": 2}
    model = pf.train(folder / "grey.tif", steps=2, settings=small, out=tmp_path / "run")
    pf.denoise(tmp_path / "run", folder / "grey.tif", tmp_path / "out", report=True)
    page = page_of(tmp_path / "out")
    assert model.method.title in page
    assert "trained for 2 steps" in page
    assert "trained on scenes that a program draws" in page
    assert "called from Python" in page


def test_without_being_asked_for_there_is_none(folder, tmp_path):
    pf.denoise("shipped", folder / "grey.tif", tmp_path / "out")
    assert not (tmp_path / "out/report.html").exists()


def test_our_own_report_is_replaced_and_another_page_is_not(folder, tmp_path):
    out = tmp_path / "out"
    pf.denoise("shipped", folder / "grey.tif", out, report=True)
    (out / "report.html").write_text('<meta name="generator" content="pairfree">')
    pf.denoise("shipped", folder / "grey.tif", out, report=True, overwrite=True)
    assert "The shipped network on 1 file" in page_of(out)
    (out / "report.html").write_text("<title>Annual figures</title>")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(OutputError, match=r"report\.html: is no report of pairfree"):
        pf.denoise("shipped", folder / "grey.tif", out, report=True, overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}


def test_pixels_that_are_missing_and_images_too_small_for_evidence_are_shown(tmp_path):
    rng = np.random.default_rng(0)
    noisy = 100.0 + rng.normal(size=(64, 64)).astype(np.float32)
    noisy[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "masked.tif", noisy)
    tifffile.imwrite(tmp_path / "small.tif", noisy[10:26, 10:26])
    files = [tmp_path / "masked.tif", tmp_path / "small.tif"]
    pf.denoise("shipped", files, tmp_path / "out", report=True, nan="mask")
    page = page_of(tmp_path / "out")
    assert "masked.tif" in page
    assert "small.tif" in page


def test_a_run_folder_keeps_its_own_report(folder, tmp_path):
    small = {"patch_px": 32, "batch_size": 2}
    pf.train(folder / "grey.tif", steps=1, settings=small, out=tmp_path / "run")
    before = page_of(tmp_path / "run")
    with pytest.raises(OutputError, match="is a run folder with a report of its own"):
        pf.denoise(tmp_path / "run", folder / "grey.tif", tmp_path / "run", report=True)
    assert page_of(tmp_path / "run") == before


def test_files_without_pixels_in_the_middle_and_results_of_another_shape_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    empty = 100.0 + rng.normal(size=(3, 64, 64)).astype(np.float32)
    empty[1] = np.nan
    whole = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "empty.tif", empty, **whole)
    tifffile.imwrite(tmp_path / "good.tif", empty[0])
    tifffile.imwrite(tmp_path / "done.tif", empty[2])
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "out/done.tif", empty[2, :40])
    files = [tmp_path / name for name in ("done.tif", "empty.tif", "good.tif")]
    done = pf.denoise("shipped", files, tmp_path / "out", report=True, nan="mask", skip_done=True)
    assert len(done) == 3
    page = page_of(tmp_path / "out")
    assert "The shipped network on 3 files" in page
    assert "the middle of 1 of them" in page


def test_a_method_that_learns_each_image_says_so(folder, tmp_path):
    pf.train(folder / "grey.tif", method="dip", steps=2, out=tmp_path / "run", report=False)
    pf.denoise(tmp_path / "run", folder / "grey.tif", tmp_path / "out", report=True)
    assert "each image was learned by itself for at most 2 steps" in page_of(tmp_path / "out")


def test_samples_of_even_noise_are_in_deviations_of_the_noise(tmp_path):
    rng = np.random.default_rng(0)
    white = rng.normal(size=(3, 200, 201))
    noisy = list((1000.0 + 30.0 * (white[..., 1:] + white[..., :-1])).astype(np.float32))
    small = {"patch_px": 32, "batch_size": 2, "noise_patch_px": 32}
    pf.train(noisy, method="gan2gan", steps=1, settings=small, out=tmp_path / "run")
    assert "deviations of the noise" in page_of(tmp_path / "run")


def test_a_report_that_cannot_be_written_is_not_announced(folder, tmp_path, monkeypatch):
    def fail(*_args, **_named):
        raise OutputError("report.html: disk full")

    monkeypatch.setattr(api, "write_denoised_report", fail)
    out = tmp_path / "out"
    done = run_cli.invoke(app, ["denoise", "shipped", str(folder), "--out", str(out), "--report"])
    assert done.exit_code == 0
    assert "report:" not in done.output
    assert "no report (report.html: disk full); the files are denoised" in done.output
