"""The names of ``import pairfree as pf``, whatever was imported before."""

import subprocess
import sys

import pytest

import pairfree as pf


@pytest.mark.parametrize(
    "before", ["", "import pairfree.evaluate.metrics", "from pairfree.evaluate import report", "import pairfree.api", "pf.METHODS"]
)
def test_evaluate_is_the_function_and_its_room_stays_importable(before):
    code = f"import pairfree as pf\n{before}\nassert pf.evaluate.__module__ == 'pairfree.evaluate.folders'\n"
    code += "from pairfree.evaluate.metrics import psnr\n"
    code += "assert callable(pf.evaluate) and pf.evaluate.__name__ == 'evaluate'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_every_public_name_is_there():
    assert {name for name in pf.__all__ if getattr(pf, name) is not None} == set(pf.__all__)
