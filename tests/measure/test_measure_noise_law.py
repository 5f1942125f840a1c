"""The law of noise as a value: written, read, drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.plane_law import measure_noise_law
from pairfree.measure.variance_line import PoissonGaussian


def shared_law() -> NoiseLaw:
    noise = gaussian_filter(np.random.default_rng(1).standard_normal((320, 320)), 0.8)
    return measure_noise_law(100.0 + 20.0 * noise / noise.std())


WHITE = NoiseLaw(PoissonGaussian(2.0, -30.0), False, 17.0)


@pytest.mark.parametrize("law", [WHITE, shared_law()], ids=["white", "shared"])
def test_what_is_written_is_read(law):
    back = NoiseLaw.from_dict(json.loads(json.dumps(law.as_dict())))
    assert back == law
    assert back.correlation(0, 1) == pytest.approx(law.correlation(0, 1), abs=1e-4)


def test_drawn_noise_has_the_correlation_of_the_law():
    law = shared_law()
    drawn = law.draw((400, 300), np.random.default_rng(2))
    assert drawn.shape == (400, 300)
    assert drawn.var() == pytest.approx(1.0, abs=0.02)
    for far in (1, 2, 3):
        along = np.mean(drawn[:, far:] * drawn[:, :-far]) / drawn.var()
        assert along == pytest.approx(law.correlation(0, far), abs=0.02)


def test_white_noise_shares_nothing():
    law = NoiseLaw(PoissonGaussian(0.0, 9.0), False)
    assert (law.correlation(0, 0), law.correlation(0, 1)) == (1.0, 0.0)
    drawn = law.draw((300, 300), np.random.default_rng(3))
    assert abs(np.mean(drawn[:, 1:] * drawn[:, :-1])) < 0.02
