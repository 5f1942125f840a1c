"""pairfree: train an image denoiser without clean/noisy pairs, apply it to real files, and see what it did.

    import pairfree as pf
    model = pf.train(noisy=arrays_or_paths, method="iddp", out="run", minutes=5)
    clean = model.denoise(array)
    model = pf.load("run")

Names are imported when first used, so that ``pairfree --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pairfree.version import __version__

if TYPE_CHECKING:
    from pairfree.api import denoise, load, train
    from pairfree.engine.model import Model
    from pairfree.evidence.folders import evaluate
    from pairfree.methods import METHODS
    from pairfree.methods.base import Method

__all__ = ["METHODS", "Method", "Model", "__version__", "denoise", "evaluate", "load", "train"]

_HOMES = {
    "train": "pairfree.api",
    "load": "pairfree.api",
    "denoise": "pairfree.api",
    "evaluate": "pairfree.evidence.folders",
    "METHODS": "pairfree.methods",
    "Method": "pairfree.methods.base",
    "Model": "pairfree.engine.model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pairfree' has no attribute {name!r}")
