"""The names of ``import pairfree as pf``, whatever was imported before."""

import subprocess
import sys

import numpy as np
import pytest

import pairfree as pf
from pairfree.methods import PRESETS


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import pairfree.evidence.metrics",
        "from pairfree.evidence import report",
        "import pairfree.api",
        "pf.METHODS",
    ],
)
def test_evaluate_is_the_function_whatever_was_imported_before(before):
    code = f"import pairfree as pf\n{before}\nassert pf.evaluate.__module__ == 'pairfree.api'\n"
    code += "from pairfree.evidence.metrics import psnr\n"
    code += "assert callable(pf.evaluate) and pf.evaluate.__name__ == 'evaluate'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_every_public_name_is_there():
    assert {name for name in pf.__all__ if getattr(pf, name) is not None} == set(pf.__all__)


def test_networks_that_have_shapes_alone_need_no_compiler():
    """Each preset of each method, as its checkpoint is compared with it: the same shapes as with numbers."""
    code = (
        "import sys\nfrom pairfree.methods import METHODS, PRESETS, build_method\n"
        "from pairfree.nets.loading import shapes_alone\n"
        "def shapes(method):\n"
        "    return {name: (one.shape, one.dtype) for name, one in method.weights().items()}\n"
        "for key, method in METHODS.items():\n"
        "    for config in PRESETS[key].values() if method.trains else ():\n"
        "        with shapes_alone():\n"
        "            made = build_method(key, config, 3, 'meta')\n"
        "        assert {one.device.type for one in made.weights().values()} == {'meta'}\n"
        "        assert shapes(made) == shapes(build_method(key, config, 3))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("key", ["n2v", "gan2gan"])
def test_a_model_that_is_loaded_to_denoise_has_no_optimisers(key, tmp_path):
    """Making one imports PyTorch's compiler, 2,759 modules, which crashes a worker thread of a Qt viewer."""
    image = np.random.default_rng(0).normal(0.5, 0.1, (96, 96)).astype(np.float32)
    settings = {"patch_px": 32, "batch_size": 1, "width": 4, "noise_patch_px": 32}
    settings = {
        name: value for name, value in settings.items() if hasattr(PRESETS[key]["cpu"], name)
    }
    pf.train(
        [image, image.T.copy()],
        method=key,
        out=tmp_path / "run",
        steps=4,
        settings=settings,
        report=False,
    )
    code = "import sys, numpy as np, pairfree as pf\n"
    code += f"model = pf.load({str(tmp_path / 'run')!r})\nmodel.denoise(np.zeros((20, 24), np.float32))\n"
    code += (
        "assert 'torch._dynamo' not in sys.modules\nassert 'optimizers' not in vars(model.method)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
