"""pairfree: train an image denoiser without clean/noisy pairs, apply it to real files, and see what it did.

    import pairfree as pf
    model = pf.train(noisy=arrays_or_paths, method="iddp", out="run", minutes=5)
    clean = model.denoise(array)
    model = pf.load("run")

Every verb of the command line has its function here: diagnose, train, denoise, evaluate, verify, simulate,
info; and ``examine``, which evaluate is made of.
Names are imported when first used, so that ``pairfree --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from pairfree.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DivergedError,
    InputError,
    MissingPackageError,
    OutputError,
    PairfreeError,
)
from pairfree.plain import OneLine
from pairfree.version import __version__

if TYPE_CHECKING:
    from pairfree.api import denoise, evaluate, examine, load, train
    from pairfree.diagnosis.diagnose import Diagnosis, diagnose
    from pairfree.engine.model import Model
    from pairfree.examination.examine import Examination
    from pairfree.files.fidelity import verify
    from pairfree.files.image import Image
    from pairfree.files.opening import open_image, save_image
    from pairfree.inspection import info
    from pairfree.methods import METHODS
    from pairfree.methods.base import Method
    from pairfree.noise.files import simulate
    from pairfree.training.settings import list_settings

__all__ = [
    "METHODS",
    "BusyError",
    "CheckpointError",
    "ConfigError",
    "Diagnosis",
    "DivergedError",
    "Examination",
    "Image",
    "InputError",
    "Method",
    "MissingPackageError",
    "Model",
    "OutputError",
    "PairfreeError",
    "__version__",
    "denoise",
    "diagnose",
    "evaluate",
    "examine",
    "info",
    "list_settings",
    "load",
    "open_image",
    "save_image",
    "simulate",
    "train",
    "verify",
]

logging.getLogger("pairfree").addFilter(OneLine())
_HOMES = {
    "train": "pairfree.api",
    "load": "pairfree.api",
    "denoise": "pairfree.api",
    "diagnose": "pairfree.diagnosis.diagnose",
    "Diagnosis": "pairfree.diagnosis.diagnose",
    "evaluate": "pairfree.api",
    "examine": "pairfree.api",
    "Examination": "pairfree.examination.examine",
    "verify": "pairfree.files.fidelity",
    "simulate": "pairfree.noise.files",
    "info": "pairfree.inspection",
    "list_settings": "pairfree.training.settings",
    "open_image": "pairfree.files.opening",
    "save_image": "pairfree.files.opening",
    "Image": "pairfree.files.image",
    "METHODS": "pairfree.methods",
    "Method": "pairfree.methods.base",
    "Model": "pairfree.engine.model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pairfree' has no attribute {name!r}")
