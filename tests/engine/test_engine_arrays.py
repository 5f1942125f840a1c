"""``Model.denoise`` of arrays: axes in any order, and channels that come last only where that is said."""

from __future__ import annotations

import numpy as np
import pytest

import pairfree as pf
from pairfree.errors import InputError


@pytest.fixture(scope="module")
def model() -> pf.Model:
    noisy = np.random.default_rng(0).poisson(60.0, (4, 48, 64)).astype(np.uint16)
    return pf.train(list(noisy), method="n2v", steps=2, device="cpu", report=False)


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return np.random.default_rng(1).poisson(60.0, (3, 40, 56)).astype(np.uint16)


@pytest.mark.parametrize("axes", ["YXC", "YCX", "XYC", "CXY", "yxc", "cyx"])
def test_axes_may_come_in_any_order_and_case(model, stack, axes):
    expected = model.denoise(stack)
    order = ["CYX".index(letter) for letter in axes.upper()]
    turned = np.transpose(stack, order)
    found = model.denoise(turned, axes=axes)
    assert found.dtype == stack.dtype
    assert np.array_equal(found, np.transpose(expected, order))


def test_an_array_with_its_channels_last_is_refused_as_training_refuses_it(model, stack):
    last = np.moveaxis(stack, 0, -1)
    with pytest.raises(InputError, match="channels come first"):
        model.denoise(last)
    with pytest.raises(InputError, match="channels come first"):
        pf.train([last], method="n2v", steps=1, device="cpu", report=False)


@pytest.mark.parametrize("axes", ["YY", "YX", "YXA", "CXX", ""])
def test_axes_that_do_not_fit_are_one_line(model, stack, axes):
    with pytest.raises(InputError, match="axes"):
        model.denoise(stack, axes=axes)
