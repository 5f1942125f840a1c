"""2.5-D: windows of slices in training, the middle one in results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import pairfree as pf
from pairfree import api
from pairfree.data.sets import Reading, array_set, read_set
from pairfree.data.slices import inner_slices, stack_axis, stack_slices
from pairfree.denoising.plan import seconds_needed
from pairfree.errors import ConfigError, InputError
from pairfree.files import Image, find_images

RNG = np.random.default_rng(0)
SETTINGS = {"width": 6, "patch_px": 32, "batch_size": 2}


def numbered(axes: str, *shape: int) -> Image:
    """Every plane holds its own number."""
    planes = np.arange(int(np.prod(shape))).reshape(*shape, 1, 1)
    return Image(np.broadcast_to(planes, (*shape, 4, 5)).astype(np.float32), axes)


@pytest.mark.parametrize(
    ("axes", "shape", "index", "expected"),
    [
        ("ZYX", (5,), (2,), [0, 1, 2, 3, 4]),
        ("ZYX", (5,), (0,), [2, 1, 0, 1, 2]),
        ("ZYX", (5,), (4,), [2, 3, 4, 3, 2]),
        ("ZCYX", (5, 2), (2, 1), [1, 3, 5, 7, 9]),
        ("TZYX", (2, 5), (1, 1), [6, 5, 6, 7, 8]),
        ("QQYX", (2, 5), (1, 3), [6, 7, 8, 9, 8]),
    ],
)
def test_a_slice_with_those_around_it(
    axes: str, shape: tuple[int, ...], index: tuple[int, ...], expected: list[int]
) -> None:
    image = numbered(axes, *shape)
    found = stack_slices(
        lambda place: image.plane(place)[None], image, index, stack_axis(image, 2, "a"), 2
    )
    assert found[:, 0, 0].tolist() == expected


def test_training_sees_whole_windows_only(tmp_path: Path) -> None:
    image = numbered("TZYX", 2, 5)
    assert list(inner_slices(image, 1, 2)) == [(0, 2), (1, 2)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        RNG.integers(0, 99, (5, 20, 30)).astype(np.uint8),
        metadata={"axes": "ZYX"},
    )
    found = read_set(find_images([tmp_path]), reading=Reading(slices_around=1))
    assert [plane.shape for plane in found.planes] == [(3, 20, 30)] * 3
    assert found.names == ["a.tif[1]", "a.tif[2]", "a.tif[3]"]
    np.testing.assert_array_equal(found.planes[1], tifffile.imread(tmp_path / "a.tif")[1:4])
    assert (
        len(array_set([RNG.normal(0, 1, (4, 8, 8))], reading=Reading(slices_around=1)).planes) == 2
    )


@pytest.mark.parametrize(
    ("pixels", "axes"),
    [((20, 30), "YX"), ((2, 20, 30), "ZYX"), ((3, 20, 30), "CYX"), ((5, 20, 30, 3), "ZYXS")],
    ids=str,
)
def test_what_is_no_stack_is_refused(tmp_path: Path, pixels: tuple[int, ...], axes: str) -> None:
    photometric = {"photometric": "rgb"} if axes.endswith("S") else {"photometric": "minisblack"}
    tifffile.imwrite(
        tmp_path / "a.tif",
        RNG.integers(0, 99, pixels).astype(np.uint8),
        metadata={"axes": axes},
        ome=True,
        **photometric,
    )
    with pytest.raises(InputError, match=r"a\.tif: (is not a stack|has 3 colours)"):
        pf.train(tmp_path / "a.tif", method="n2v", steps=1, settings=SETTINGS, slices_around=1)


class Shifted(torch.nn.Module):
    """Gives each channel the one before it: what comes back for a slice must be the slice before it."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.roll(1, dims=1) + 0.0 * self.nothing


@pytest.mark.parametrize("max_bytes", [2e9, 3e6])
def test_results_are_the_middle_of_each_window(tmp_path: Path, max_bytes: float) -> None:
    stack = RNG.integers(0, 2**16, (6, 150, 140)).astype(np.uint16)
    pf.train(
        stack,
        method="n2v",
        steps=1,
        out=tmp_path / "run",
        settings={"patch_px": 32},
        net=Shifted(),
        slices_around=1,
        report=False,
    )
    model = pf.load(tmp_path / "run", net=Shifted(), max_bytes=max_bytes)
    done = model.denoise(stack, axes="ZYX")
    np.testing.assert_array_equal(done, stack[[1, 0, 1, 2, 3, 4]])
    with pytest.raises(InputError, match="not a stack of more than 1 slices"):
        model.denoise(stack[0])


def test_files_reports_and_resumed_runs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in/a.tif",
        RNG.integers(0, 999, (5, 64, 64)).astype(np.uint16),
        imagej=True,
        metadata={"axes": "ZYX"},
    )
    with pytest.raises(Exception, match="stopped at step 2"):
        pf.train(
            tmp_path / "in",
            method="iddp",
            steps=4,
            out=tmp_path / "run",
            settings=SETTINGS,
            slices_around=1,
            on_step=lambda n, *_: n == 2,
        )
    pf.train(out=tmp_path / "run", resume=True)
    assert "Slices around each" in (tmp_path / "run/report.html").read_text()
    assert (
        api.plan_denoising(tmp_path / "run", [tmp_path / "in"], tmp_path / "out").left.pixels
        == 5 * 64 * 64
    )
    assert (
        seconds_needed(api.plan_denoising(tmp_path / "run", [tmp_path / "in"], tmp_path / "out"))[0]
        > 0
    )
    pf.denoise(tmp_path / "run", tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="trained with 1 slices around each, not 0"):
        pf.train(tmp_path / "in", method="iddp", steps=1, settings=SETTINGS, init=tmp_path / "run")
    with tifffile.TiffFile(tmp_path / "out/a.tif") as file:
        assert (file.series[0].shape, file.series[0].axes) == ((5, 64, 64), "ZYX")


def test_wrong_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`slices_around` = 99"):
        pf.train(np.zeros((9, 8, 8)), method="n2v", steps=1, slices_around=99)
