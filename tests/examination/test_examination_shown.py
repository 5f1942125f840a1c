"""What a report and JSON show of an examination: curves, places, maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import pairfree
from pairfree.evidence.examples import Example
from pairfree.evidence.noref import residual_evidence
from pairfree.evidence.report import ReportData, render_report
from pairfree.examination.places import Place
from pairfree.training.examining import _shift_places

SIDE, SIGMA = 256, 20.0


def noisy() -> np.ndarray:
    rng = np.random.default_rng(0)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3.0)
    scene = 100.0 + 60.0 * np.tanh(rough / rough.std())
    return scene + SIGMA * rng.standard_normal((SIDE, SIDE))


@pytest.fixture(scope="module")
def found() -> pairfree.Examination:
    return pairfree.examine(lambda planes: gaussian_filter(planes, (0, 1.5, 1.5)), [noisy()])


def test_curves_are_the_numbers_of_json(found):
    told = found.as_dict()
    spots = told["planted_spots"]
    assert len(spots) == 12
    survival, transfer = found.curves
    assert sum(len(xs) for xs, _ in survival.series.values()) == 12
    for one in spots:
        expected = one["signal_to_noise"] * SIGMA
        through = np.sqrt(np.pi) * one["width_px"] / (2.0 * np.sqrt(2.0 * np.log(2.0)))
        assert one["height"] * through == pytest.approx(expected, rel=0.1)
        assert 0.0 <= one["survive"] <= 1.0
    frequencies, correlation = transfer.series["correlation with the truth"]
    assert list(frequencies) == told["frequencies"]
    assert np.nan_to_num(told["correlation_with_truth"]).tolist() == list(correlation)
    assert json.loads(json.dumps(told, allow_nan=True))["transfer"] == pytest.approx(
        told["transfer"], nan_ok=True
    )


def test_a_blur_keeps_wide_spots_and_loses_narrow_ones(found):
    strong = {
        one["width_px"]: one["survive"]
        for one in found.as_dict()["planted_spots"]
        if one["signal_to_noise"] == 16.0
    }
    narrow, _, wide = (strong[width] for width in sorted(strong))
    assert narrow == 0.0
    assert wide == 1.0


def test_quick_plants_nothing(found):
    quick = pairfree.examine(
        lambda planes: gaussian_filter(planes, (0, 1, 1)), [noisy()], quick=True
    )
    assert [one.title for one in quick.curves] == [found.curves[1].title]
    assert "planted_spots" not in quick.as_dict()


def test_a_report_shows_curves_and_places(found):
    image = noisy()[:64, :64]
    example = Example("a", image, image, places=[(8, 16, 32, 24)])
    data = ReportData(
        "t",
        "c",
        "m",
        "M",
        examples=[example],
        evidence=[("a", residual_evidence(noisy(), gaussian_filter(noisy(), 1.5)))],
        rows=found.rows,
        examined_curves=found.curves,
    )
    page = render_report(data)
    for one in found.curves:
        assert one.title in page
    assert 'class="place-mark" x="16" y="8" width="24" height="32"' in page


def test_places_of_a_plane_are_cut_to_what_is_shown():
    places = [Place(100, 100, 7.0), Place(300, 300, 7.0), Place(0, 0, 7.0)]
    assert _shift_places(places, (512, 512), 320) == [(4, 4, 64, 64), (204, 204, 64, 64)]
    assert _shift_places([Place(80, 200, 7.0)], (512, 512), 320) == [(0, 104, 48, 64)]
    assert _shift_places([Place(16, 32, 7.0)], (128, 128), 320) == [(16, 32, 64, 64)]
