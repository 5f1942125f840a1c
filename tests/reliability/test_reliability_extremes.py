"""Intensities near the ends of what floats can hold: a result, or a refusal in one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pairfree as pf
from pairfree.data.missing import check_range
from pairfree.evidence.plots import histogram_pair

RNG = np.random.default_rng(0)
NEAR_1 = RNG.normal(1.0, 0.2, (48, 48))
BEYOND = {
    "large": NEAR_1 * 1e300,
    "largest": np.sign(NEAR_1 - 1.0) * 1.7e308,
    "denormal": np.rint(3.0 * NEAR_1) * 5e-324,
    "small": NEAR_1 * 1e-200,
    "one": np.where(RNG.random((48, 48)) < 0.01, 1e300, NEAR_1),
    "missing": np.where(RNG.random((48, 48)) < 0.01, np.nan, NEAR_1 * 1e300),
}
WITHIN = {
    "large": NEAR_1 * 1e38,
    "small": NEAR_1 * 1e-42,
    "single": (NEAR_1 * 1e-42).astype(np.float32),
    "offset": 1e17 + 1e3 * NEAR_1,
    "zero": np.zeros((48, 48)),
}
SETTINGS = {"net": "dncnn", "width": 4, "patch_px": 16, "batch_size": 2}
REFUSAL = r"a\.npy.*: intensities reach .* in size, outside 1\.4e-45 \.\. 3\.4e\+38; multiply"


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("near").mkdir()
    np.save("near/a.npy", NEAR_1)
    return tmp_path


@pytest.mark.parametrize("nan", ["error", "mask"])
@pytest.mark.parametrize("name", BEYOND)
def test_what_cannot_be_computed_with_is_refused_before_any_work(
    folder: Path, name: str, nan: str
) -> None:
    np.save("in/a.npy", BEYOND[name])
    refusal = "NaN" if name == "missing" and nan == "error" else REFUSAL
    with pytest.raises(pf.InputError, match=refusal):
        pf.train("in", method="n2v", steps=1, settings=SETTINGS, nan=nan)
    with pytest.raises(pf.InputError, match=refusal):
        pf.denoise("shipped", "in", "out", nan=nan)
    assert [path for path in folder.rglob("*") if "partial" in path.name] == []
    assert not list(folder.glob("out/*.npy"))


@pytest.mark.parametrize("name", [name for name in BEYOND if name != "missing"])
def test_what_cannot_be_computed_with_is_told_and_not_judged(folder: Path, name: str) -> None:
    np.save("in/a.npy", BEYOND[name])
    for first, second in (("in", "near"), ("near", "in"), ("in", "in")):
        with pytest.raises(pf.InputError, match=REFUSAL):
            pf.evaluate(first, noisy=second)
        with pytest.raises(pf.InputError, match=REFUSAL):
            pf.evaluate(first, second, 1.0)
    assert ("pixel type", "float64") in pf.info("in/a.npy")


@pytest.mark.parametrize("name", WITHIN)
def test_what_single_precision_holds_is_denoised_and_judged(folder: Path, name: str) -> None:
    np.save("in/a.npy", WITHIN[name])
    (done,) = pf.denoise("shipped", "in", "out", report=True)
    assert np.isfinite(np.load(done.written)).all()
    assert Path("out/report.html").is_file()
    pf.evaluate("out", noisy="in")
    data_range = float(np.ptp(WITHIN[name])) or 1.0
    pf.evaluate("out", "in", data_range, low=float(WITHIN[name].min()))
    pf.verify("in", "out")


def test_the_ends_of_the_range_are_in_it() -> None:
    for size in (float(np.finfo(np.float32).max), 1.5e-45, 0.0, np.nan):
        check_range(np.array([-size]), "a")
    for size in (3.41e38, -1e39, 1e-46):
        with pytest.raises(pf.InputError):
            check_range(np.array([size, np.inf]), "a")


def test_a_histogram_of_numbers_too_alike_for_bins_is_drawn() -> None:
    values = 1e17 + np.arange(3.0) * 16
    assert "<svg" in histogram_pair(values, values, ("a", "b"), "label", "x")
