"""Pictures of the docs from measured cells.

    python benchmarks/figures.py --data DIR [--only NAME ...]

DIR is the data of ``pairfree bench``.

iscl_convergence.svg     after Figure 7 of ISCL: PSNR of F(x) on the test images while it trains, film noise
iddp_residual.svg        after Figure 4 of IDDP: the noise n, and what the trained network removes, y - F(y)
noise_patches.svg        after Figure 2 (a) of GAN2GAN: deviations of the noise patches that rules (4) and
                         (3) choose, white noise of 25
noise_micrographs.png    clean, film and charge noise on a micrograph whose licence allows it (MIT)
em_errors.png            after Figure 5 of ISCL: that micrograph with film noise, and what networks of
                         ``bench em`` make of it, above their errors; columns in the order of EM_ROWS,
                         errors white from 64 grey levels on
ct_errors.png            after Figure 4 of ISCL: a chest slice at a simulated quarter dose (CC BY 4.0) and
                         what methods make of it, above their errors; columns in the order of ERROR_ROWS,
                         [-160, 240] HU, errors white from 100 HU on
em_charging.png          a scanning electron micrograph of yeast (Apache-2.0) with a charging halo, what
                         ISCL makes of it beside a clean set of another tissue, and three times what it
                         removed: an example of what not to do
phantom_errors.png       after Figure 4 (b) of GAN2GAN: a draw of the phantom (CC0) at 10 % of the dose and
                         what methods that see such draws alone make of it, above their errors; columns in
                         the order of PHANTOM_ROWS, windows as in ct_errors.png
white_errors.png         the photograph "camera" of scikit-image (CC0) with white noise of sigma 25, and
                         what networks of ``bench bsd68`` make of it, above their errors; columns in the
                         order of NATURAL_ROWS, errors white from 64 grey levels on
correlated_errors.png    the same with correlated noise of sigma 25
stop_gradient.png        after Figure 7 of IDDP: white_errors.png again, with a network of IDDP after its
                         warm start, and after eq. (11) as the paper has it, with and without stop-gradient
colour_errors.png        the photograph "chelsea" of scikit-image (CC0) with clipped white noise of sigma
                         25, and what networks of ``bench bsd300`` make of it; columns in the order of
                         COLOUR_ROWS
noisy_n2n.svg            after Figure 1 of GAN2GAN: PSNR after each round of Noisy N2N, from first estimates
                         of known quality
gan2gan_rounds.svg       after Figure 6 (b) of GAN2GAN: PSNR after each round from the start and from Z,
                         correlated noise
wide_field_rounds.svg    after Figure 6 (c) of GAN2GAN: likewise on FMD's wide-field images
recall.svg               how much of faint discs, added to real noisy files, comes back (invention.py)
noise_ct.png             a chest slice (CC BY 4.0) as scanned, and simulated at 50, 25 and 10 % of the dose,
                         [-160, 240] HU
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skimage.data import camera, chelsea

from pairfree import api
from pairfree.bench.base import Cell, Experiment
from pairfree.bench.bsd68 import EXPERIMENT
from pairfree.bench.bsd300 import EXPERIMENT as BSD300
from pairfree.bench.ct import EXPERIMENT as CT
from pairfree.bench.ct import FOLDS
from pairfree.bench.ct_dose import EXPERIMENT as CT_DOSE
from pairfree.bench.ct_dose import PHANTOM
from pairfree.bench.em import EXPERIMENT as EM
from pairfree.bench.em_real import EXPERIMENT as EM_REAL
from pairfree.bench.noisy_n2n import CLEAN_ROW, ESTIMATES
from pairfree.bench.patches import EXPERIMENT as PATCHES
from pairfree.bench.pictures import heat_map
from pairfree.bench.tables import read_results
from pairfree.bench.wf import EXPERIMENT as WF
from pairfree.engine.run import RunFolder
from pairfree.evidence.plots import curves, histogram_pair
from pairfree.files.image import Image
from pairfree.files.opening import open_image, save_image
from pairfree.measure.smooth_areas import extract_noise
from pairfree.noise.files import simulate_pixels
from pairfree.noise.simulate import add_noise, image_rng, parse_noise

ROOT = Path(__file__).resolve().parent.parent
MICROGRAPH, SLICE = "sub-rat1_sample-data1_SEM.png", "A058062_19001231-084.dcm"
MICROGRAPH_PART = slice(300, 556), slice(300, 556)
PHOTOGRAPH = slice(40, 296), slice(130, 386)
"""Of the photograph, a part with a face, a coat, a camera, sky and towers."""
COLOUR_PHOTOGRAPH = slice(20, 276), slice(90, 346)
"""Of the photograph, the face of a cat and the blurred room behind it."""
COLOUR_ROWS = ("noisy", "b2u", "iddp", "n2c")
ERROR_ROWS = ("noisy", "gaussian 1.0 px", "iscl")
NATURAL_ROWS = ("noisy", "n2v", "nb2nb", "iddp", "gan2gan", "n2c")
STOP_ROWS = ("iddp, the paper's eq. 11", "iddp, no stop-gradient")
EM_ROWS = ("noisy", "uidnet", "iscl", "n2c")
PHANTOM_ROWS = ("noisy", "gaussian 2.0 px", "n2v", "iddp", "gan2gan")
STYLE = """<style>
.plot { background: #fff; font: 12px system-ui, sans-serif; }
.plot text { fill: #444; } .plot .key { text-anchor: end; } .plot .axis { stroke: #444; }
.plot polyline { fill: none; stroke-width: 1.75; } .plot .line-b { stroke: #b04a00; } \
.plot .mark-b { fill: #b04a00; }
.plot .line-0 { stroke: #777; } .plot .line-1 { stroke: #0a6685; } .plot .line-2 { stroke: #b04a00; }
.plot .line-3 { stroke: #6a4ca3; } .plot .mark-3 { fill: #6a4ca3; }
.plot .mark-0 { fill: #777; } .plot .mark-1 { fill: #0a6685; } .plot .mark-2 { fill: #b04a00; } \
.plot .grid { stroke: #ddd; }
.plot .fill-a { fill: #0a6685; fill-opacity: 0.35; stroke: #0a6685; stroke-width: 0.75; } \
.plot .mark-a { fill: #0a6685; }
</style>"""


def cell_of(experiment: Experiment, name: str) -> Cell:
    return next(cell for cell in experiment.cells("cpu") if cell.name == name)


def denoised_by(cell: Cell, runs: Path, name: str) -> np.ndarray:
    """Pixels of a test image as a measured cell left it."""
    return open_image(next((runs / cell.slug / "denoised").rglob(f"{name}.tif"))).pixels


def residual_histogram(data: Path, runs: Path) -> str:
    """SVG: the noise of BSD68, sigma 25, filled, and the residual of IDDP (preset cpu, seed 0) as a line."""
    cell = cell_of(EXPERIMENT, "gaussian:sigma=25/iddp/cpu/seed0")
    images = EXPERIMENT.task(data, cell).test
    noise = np.concatenate([(image.noisy - image.clean).ravel() for image in images])
    removed = np.concatenate(
        [(image.noisy[0] - denoised_by(cell, runs, image.name)).ravel() for image in images]
    )
    names = (f"n, std {noise.std():.1f}", f"y - F(y), std {removed.std():.1f}")
    svg = histogram_pair(
        noise,
        removed,
        names,
        "True noise and what IDDP removed",
        f"grey levels of {images[0].data_range:.0f}; heights are square roots",
    )
    return standalone(svg)


def patch_deviations(data: Path) -> str:
    """SVG: deviations of the patches of ``bench patches``, rule (4) filled, rule (3) as a line."""
    images = PATCHES.task(data, cell_of(PATCHES, "gaussian:sigma=25/rule (4)/cpu/seed0")).noisy
    ours, theirs = (
        np.clip(extract_noise(images, rule=rule).deviations, 24.0, 30.0)
        for rule in ("wavelet", "gcbd")
    )
    words = (
        "deviations of noise patches by rule",
        "deviation of a patch, grey levels (30: and more)",
    )
    return standalone(histogram_pair(ours, theirs, ("rule (4)", "rule (3)"), *words))


def standalone(svg: str) -> str:
    """A plot of the report as a file of its own."""
    head, inner = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{inner}\n'


def convergence(results: Path) -> str:
    """SVG: the cells of ``bench convergence``, a point each time they were scored and one at the end."""
    series = {}
    for result in read_results(results / "convergence").values():
        points = [
            (one["seconds"], one["scores"]["all"]["psnr_db"])
            for one in result["training"]["scores_on_the_way"]
        ]
        points.append((result["training"]["seconds"], result["scores"]["all"]["psnr_db"]))
        series[result["row"]] = (
            [seconds / 60 for seconds, _ in points],
            [psnr for _, psnr in points],
        )
    return standalone(
        curves(
            series,
            "PSNR of F(x) while it trains, film noise",
            "minutes of training, 2 CPU cores",
            "PSNR, dB",
        )
    )


def noisy_n2n(results: Path) -> str:
    """SVG: cells of ``bench noisy-n2n``; round 0 is the PSNR of the estimates that training begins with."""
    found = {
        result["row"]: after_rounds(result)
        for result in read_results(results / "noisy-n2n").values()
    }
    series = {"clean images": ([0.0, 3.0], found[CLEAN_ROW] * 2)}
    for row, sigma in ESTIMATES.items():
        if sigma in (5.0, 15.0, 25.0):
            psnr = [20 * math.log10(255 / sigma), *found[row]]
            series[f"from {psnr[0]:.1f} dB"] = ([0.0, 1.0, 2.0, 3.0], psnr)
    return standalone(curves(series, "Rounds of Noisy N2N", "round", "PSNR, dB"))


def rounds(experiment: Experiment, column: str, results: Path) -> str:
    """SVG: PSNR of ``gan2gan`` after each round.

    Begun with the short preset's start (round 0) and with Z (round 0: the noisy images).
    """
    measured = read_results(results / experiment.name)
    noisy, ours, from_z = (
        after_rounds(measured[f"{column}/{row}/cpu/seed0"])
        for row in ("noisy", "gan2gan", "gan2gan, started from Z")
    )
    begun = {"from its start": ours, "from Z": noisy + from_z}
    series = {name: (list(map(float, range(len(psnr)))), psnr) for name, psnr in begun.items()}
    return standalone(curves(series, f"GAN2GAN after each round, {column}", "round", "PSNR, dB"))


def recall(results: Path) -> str:
    """SVG: of faint discs, the share that comes back, from the start and from random weights."""
    networks = json.loads((results / "invention.json").read_text())["networks"]
    shown = {
        "shipped": "shipped",
        "iddp, 45 s": "iddp, 45 seconds from the start",
        "random, 10 min": "iddp, 10 minutes from random weights",
    }
    series = {}
    for words, network in shown.items():
        shapes = networks[network]["recall"].values()
        contrasts = list(next(iter(shapes)))
        means = [float(np.mean([shape[one] for shape in shapes])) for one in contrasts]
        series[words] = (list(map(float, contrasts)), means)
    label = "Faint discs and lines that were added to real noisy files, and what comes back of them"
    x_label = "contrast, deviations of the noise"
    return standalone(curves(series, label, x_label, "share that comes back, mean over shapes"))


def after_rounds(result: Mapping[str, Any]) -> list[float]:
    """PSNR after each stage of training, the last at its end."""
    scores = [*result.get("training", {}).get("scores_after", {}).values(), result["scores"]]
    return [next(iter(score.values()))["psnr_db"] for score in scores]


def micrograph(data: Path) -> np.ndarray:
    """(256, 256) grey levels."""
    return (
        open_image(data / "em" / "sem_rat_axon" / MICROGRAPH)
        .pixels[MICROGRAPH_PART]
        .astype(np.float64)
    )


def noise_micrographs(data: Path) -> np.ndarray:
    """(256, 3 * 256) grey levels."""
    clean = micrograph(data)
    panels = [
        clean,
        *(add_noise(clean, spec, image_rng(0, spec))[0] for spec in ("film", "charge")),
    ]
    return eight_bit(np.hstack(panels), 0.0, 255.0)


def noise_ct(data: Path) -> np.ndarray:
    """(256, 4 * 256) grey levels of [-160, 240] HU."""
    image = open_image(data / "ct" / "covid_ny_sbu" / SLICE)
    panels = [image.pixels.astype(np.float64)]
    for dose in (0.5, 0.25, 0.1):
        panels.append(
            simulate_pixels(
                image, panels[0], parse_noise(f"lowdose-ct:dose={dose}"), image_rng(0, "ct")
            )[0]
        )
    return eight_bit(np.hstack([panel[130:386, 130:386] for panel in panels]), -160.0, 240.0)


def ct_errors(data: Path, runs: Path) -> np.ndarray:
    """(2 * 256, methods * 256, 3) colours."""
    middle = slice(130, 386), slice(130, 386)
    clean = open_image(data / "ct" / "covid_ny_sbu" / SLICE).pixels[middle].astype(np.float64)
    names = [f"{FOLDS[0]}/{row}/cpu/seed0" for row in ERROR_ROWS]
    return above_errors(
        [
            denoised_by(cell_of(CT, name), runs, SLICE.removesuffix(".dcm"))[middle]
            for name in names
        ],
        clean,
    )


def phantom_errors(data: Path, runs: Path) -> np.ndarray:
    """(2 * 256, methods * 256, 3) colours."""
    column = next(iter(PHANTOM))
    cells = [cell_of(CT_DOSE, f"{column}/{row}/cpu/seed0") for row in PHANTOM_ROWS]
    image = CT_DOSE.task(data, cells[0]).test[0]
    assert image.clean is not None
    return above_errors([denoised_by(cell, runs, image.name) for cell in cells], image.clean[0])


def photograph(column: str) -> tuple[np.ndarray, np.ndarray]:
    """(256, 256) grey levels: clean, and with the noise of a column."""
    clean = camera()[PHOTOGRAPH].astype(np.float64)
    return clean, add_noise(clean, column, image_rng(0, column))[0].astype(np.float32)


def natural_errors(runs: Path, column: str) -> np.ndarray:
    """(2 * 256, methods * 256, 3) colours."""
    clean, noisy = photograph(column)
    return above_errors(
        [noisy, *applied(EXPERIMENT, column, NATURAL_ROWS[1:], runs, noisy)], clean, 0.0, 255.0
    )


def stop_gradient(runs: Path) -> np.ndarray:
    """Noisy, after the warm start, after eq. (11) with stop-gradient and without.

    (2 * 256, 4 * 256, 3) colours.
    """
    column = "gaussian:sigma=25"
    clean, noisy = photograph(column)
    first = RunFolder(runs / cell_of(EXPERIMENT, f"{column}/{STOP_ROWS[0]}/cpu/seed0").slug / "run")
    warm = api.load(first.stage_path("warm start"), device="cpu").denoise(noisy, "YX")
    return above_errors(
        [noisy, warm, *applied(EXPERIMENT, column, STOP_ROWS, runs, noisy)], clean, 0.0, 255.0
    )


def colour_errors(runs: Path) -> np.ndarray:
    """(2 * 256, methods * 256, 3) colours."""
    clean = chelsea()[COLOUR_PHOTOGRAPH].astype(np.float64)
    column = "gaussian, clipped"
    noisy = eight_bit(add_noise(clean, "gaussian:sigma=25", image_rng(0, column))[0], 0.0, 255.0)
    return above_errors(
        [noisy, *applied(BSD300, column, COLOUR_ROWS[1:], runs, noisy)], clean, 0.0, 255.0
    )


def em_errors(data: Path, runs: Path) -> np.ndarray:
    """(2 * 256, methods * 256, 3) colours."""
    clean = micrograph(data)
    noisy = eight_bit(add_noise(clean, "film", image_rng(0, "film"))[0], 0.0, 255.0)
    return above_errors(
        [noisy, *applied(EM, "film, fold 0", EM_ROWS[1:], runs, noisy)], clean, 0.0, 255.0
    )


def applied(
    experiment: Experiment, column: str, rows: Sequence[str], runs: Path, noisy: np.ndarray
) -> list[np.ndarray]:
    """What the networks of these cells make of another image."""
    axes = "YX" if noisy.ndim == 2 else "YXS"
    cells = [cell_of(experiment, f"{column}/{row}/cpu/seed0") for row in rows]
    return [api.load(runs / cell.slug / "run", device="cpu").denoise(noisy, axes) for cell in cells]


def above_errors(
    found: Sequence[np.ndarray], clean: np.ndarray, low: float = -160.0, data_range: float = 400.0
) -> np.ndarray:
    """Images (H, W) or (H, W, 3) side by side, above heat maps of their errors.

    From ``low`` (black) over ``data_range`` (white).
    """
    columns = []
    for one in found:
        shown, error = one.astype(np.float64), one - clean
        if shown.ndim == 2:
            shown, error = np.stack([shown] * 3, -1), error[..., None]
        columns.append(
            np.vstack(
                [
                    eight_bit(shown, low, low + data_range),
                    heat_map(np.moveaxis(error, -1, 0), data_range),
                ]
            )
        )
    return np.hstack(columns)


def charging(data: Path, runs: Path) -> np.ndarray:
    """(400, 3 * 350) grey levels."""
    cell = cell_of(EM_REAL, "charging/iscl/cpu/seed0")
    (image,) = EM_REAL.task(data, cell).test
    found = denoised_by(cell, runs, image.name)
    noisy, denoised = (one[:, 500:850].astype(np.float64) for one in (image.noisy[0], found))
    return eight_bit(np.hstack([noisy, denoised, 128.0 + 3.0 * (noisy - denoised)]), 0.0, 255.0)


def eight_bit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--runs",
        type=Path,
        default=ROOT / "benchmarks" / "runs",
        help="where pairfree bench trained",
    )
    parser.add_argument("--only", nargs="+", default=[], help="names of pictures, without suffix")
    given = parser.parse_args()
    results = ROOT / "benchmarks" / "results"
    makers: dict[str, Callable[[], str | np.ndarray]] = {
        "iscl_convergence.svg": lambda: convergence(results),
        "iddp_residual.svg": lambda: residual_histogram(given.data, given.runs / "bsd68"),
        "noise_patches.svg": lambda: patch_deviations(given.data),
        "noise_micrographs.png": lambda: noise_micrographs(given.data),
        "em_errors.png": lambda: em_errors(given.data, given.runs / "em"),
        "noise_ct.png": lambda: noise_ct(given.data),
        "em_charging.png": lambda: charging(given.data, given.runs / "em-real"),
        "phantom_errors.png": lambda: phantom_errors(given.data, given.runs / "ct-dose"),
        "white_errors.png": lambda: natural_errors(given.runs / "bsd68", "gaussian:sigma=25"),
        "stop_gradient.png": lambda: stop_gradient(given.runs / "bsd68"),
        "correlated_errors.png": lambda: natural_errors(
            given.runs / "bsd68", "correlated:sigma=25"
        ),
        "colour_errors.png": lambda: colour_errors(given.runs / "bsd300"),
        "recall.svg": lambda: recall(results),
        "noisy_n2n.svg": lambda: noisy_n2n(results),
        "gan2gan_rounds.svg": lambda: rounds(EXPERIMENT, "correlated:sigma=25", results),
        "wide_field_rounds.svg": lambda: rounds(WF, "FMD wide-field", results),
        "ct_errors.png": lambda: ct_errors(given.data, given.runs / "ct"),
    }
    folder = ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    for name, make in makers.items():
        if given.only and Path(name).stem not in given.only:
            continue
        made = make()
        if isinstance(made, str):
            (folder / name).write_text(made, encoding="utf-8")
        else:
            save_image(
                Image(made, "YX" if made.ndim == 2 else "YXS", family="png"),
                folder / name,
                overwrite=True,
            )


if __name__ == "__main__":
    main()
