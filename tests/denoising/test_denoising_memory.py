"""R27 over files: the bound that is proposed is one for the process, and the call under it works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pairfree as pf
from pairfree.denoising.plan import network_bytes, process_bytes
from pairfree.errors import ConfigError
from pairfree.methods.base import Method

SETTINGS = {"net": "dncnn", "even": False, "width": 4, "patch_px": 16, "batch_size": 2}
FITS_PX = 60
"""Side of what the device takes at a time."""


@given(st.integers(10**4, 10**11))
def test_a_bound_for_the_process_leaves_the_network_what_it_asks_for(n_bytes: int) -> None:
    left = network_bytes(process_bytes(n_bytes))
    assert n_bytes <= left <= n_bytes + 1


def test_what_is_proposed_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.integers(0, 2**16, (90, 50)).astype(np.uint16))
    run, pixels = tmp_path / "run", rng.integers(0, 2**16, (64, 64)).astype(np.uint16)
    pf.train([pixels], method="n2v", steps=2, settings=SETTINGS, out=run, report=False)
    true = Method.denoise_plane

    def scarce(self: Method, x: torch.Tensor, correlated: bool) -> torch.Tensor:
        if max(x.shape[-2:]) > FITS_PX:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true(self, x, correlated)

    monkeypatch.setattr(type(pf.load(run).method), "denoise_plane", scarce)
    monkeypatch.setattr("pairfree.engine.predictor.MOST_HALVINGS", 2)
    with pytest.raises(ConfigError, match="give a `max_bytes` of") as told:
        pf.denoise(run, tmp_path / "a.npy", tmp_path / "out")
    found = re.search(r"`max_bytes` of (\d+): tiles of (\d+) px fit", str(told.value))
    assert found
    assert not (tmp_path / "out/a.npy").exists()
    bound, core_px = map(int, found.groups())
    assert pf.load(run, max_bytes=network_bytes(bound)).predictor.core_px == core_px
    (done,) = pf.denoise(run, tmp_path / "a.npy", tmp_path / "out", max_bytes=bound)
    assert done.written.is_file()
