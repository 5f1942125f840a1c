"""Pixels that are NaN or Inf (reliability row R17): refused, or made up and given back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.data.missing import REACH_PX, fill_missing
from pairfree.errors import ConfigError, InputError, PairfreeError

RNG = np.random.default_rng(0)
SETTINGS = {"width": 4, "patch_px": 32, "batch_size": 2}


def holed(shape: tuple[int, int] = (120, 140)) -> np.ndarray:
    """Noise with a dead pixel, a dead row, an overflow and a missing corner.

    The corner is larger than anything can be made up from.
    """
    image = RNG.normal(100, 10, shape).astype(np.float32)
    image[40, 50] = np.nan
    image[70] = np.nan
    image[:40, :45] = np.nan
    image[100, 100] = np.inf
    return image


def test_what_is_missing_is_the_mean_of_what_is_near() -> None:
    image = holed()[None]
    made = fill_missing(image, -1.0)
    there = np.isfinite(image)
    np.testing.assert_array_equal(made[there], image[there])
    for row, column in ((40, 50), (70, 3), (100, 100), (39, 44)):
        around = image[
            0,
            max(0, row - REACH_PX) : row + REACH_PX + 1,
            max(0, column - REACH_PX) : column + REACH_PX + 1,
        ]
        assert made[0, row, column] == pytest.approx(around[np.isfinite(around)].mean(), rel=1e-5)
    assert made[0, 0, 0] == -1.0
    whole = np.ones((1, 5, 5))
    assert fill_missing(whole, 0.0) is whole


def test_a_huge_value_far_away_does_not_spoil_what_is_made_up() -> None:
    image = np.full((1, 40, 400), 100.0)
    image[0, :, 50] = -1e20
    image[0, 10, 300] = np.nan
    assert fill_missing(image, 0.0)[0, 10, 300] == 100.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(InputError, match="`nan` mask"):
        pf.train(
            [holed()], method="n2v", steps=3, out=folder / "run", settings=SETTINGS, report=False
        )
    pf.train(
        [holed()],
        method="n2v",
        steps=3,
        out=folder / "run",
        settings=SETTINGS,
        report=False,
        nan="mask",
    )
    return folder / "run"


@pytest.mark.parametrize("max_bytes", [2e9, 2e6])
def test_only_missing_pixels_are_missing_in_the_result(run: Path, max_bytes: float) -> None:
    image = holed((200, 210))
    with pytest.raises(InputError, match="pixels are NaN or Inf"):
        pf.load(run).denoise(image)
    model = pf.load(run, nan="mask", max_bytes=max_bytes)
    done = model.denoise(image)
    np.testing.assert_array_equal(np.isnan(done), np.isnan(image))
    np.testing.assert_array_equal(np.isinf(done), np.isinf(image))
    # In tiles it comes out as in one piece.
    np.testing.assert_allclose(done, pf.load(run, nan="mask").denoise(image), rtol=0, atol=1e-3)
    full = RNG.normal(100, 10, (50, 50)).astype(np.float32)
    np.testing.assert_array_equal(
        model.denoise(full), pf.load(run, max_bytes=max_bytes).denoise(full)
    )


def test_a_trained_model_treats_missing_pixels_as_it_was_told(tmp_path: Path) -> None:
    """The model that ``train`` returns, of a new run and of a resumed one; without a word it refuses them."""
    image = holed()
    given = {"method": "n2v", "steps": 2, "settings": SETTINGS, "report": False}
    told = pf.train([image], out=tmp_path / "run", nan="mask", **given)
    again = pf.train([image], out=tmp_path / "run", resume=True, report=False)
    for model in (told, again):
        done = model.denoise(image)
        np.testing.assert_array_equal(np.isfinite(done), np.isfinite(image))
    untold = pf.train([np.nan_to_num(image, posinf=0, neginf=0)], **given)
    with pytest.raises(InputError, match="pixels are NaN or Inf"):
        untold.denoise(image)


def test_files_keep_their_holes(run: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", holed())
    with pytest.raises(InputError, match=r"a\.tif: \d+ of 16800 pixels are NaN or Inf"):
        pf.denoise(run, tmp_path / "a.tif", tmp_path / "out")
    pf.denoise(run, tmp_path / "a.tif", tmp_path / "out", nan="mask")
    np.testing.assert_array_equal(
        np.isfinite(tifffile.imread(tmp_path / "out/a.tif")),
        np.isfinite(tifffile.imread(tmp_path / "a.tif")),
    )


def test_a_dry_run_and_an_evaluation_of_what_has_holes(run: Path, tmp_path: Path, pairfree) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/a.tif", holed())
    given = ("denoise", run, tmp_path / "in", "--out", tmp_path / "out", "--nan", "mask")
    assert pairfree(*given, "--dry-run")[0] == 0
    assert pairfree(*given)[0] == 0
    code, _, err = pairfree("evaluate", "--noisy", tmp_path / "in", "--denoised", tmp_path / "out")
    assert code == 0, err


def test_a_stopped_run_remembers_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", holed())
    with pytest.raises(PairfreeError, match="stopped at step 2"):
        pf.train(
            tmp_path / "a.tif",
            method="n2v",
            steps=4,
            out=tmp_path / "run",
            settings=SETTINGS,
            nan="mask",
            on_step=lambda n, *_: n == 2,
        )
    pf.train(out=tmp_path / "run", resume=True, report=False)


def test_nothing_there_and_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all its pixels are NaN or Inf"):
        pf.train([np.full((64, 64), np.nan)], method="n2v", steps=1, settings=SETTINGS, nan="mask")
    with pytest.raises(ConfigError, match="no treatment of NaN named 'ignore'"):
        pf.load(tmp_path, nan="ignore")
