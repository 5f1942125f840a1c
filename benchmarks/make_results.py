"""Write docs/results.md from the committed JSON: python benchmarks/make_results.py"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pairfree.bench.harness import BENCH_PRESETS, EXPERIMENTS, cells_of
from pairfree.bench.overview import index
from pairfree.bench.tables import markdown, read_results

ROOT = Path(__file__).resolve().parent.parent


class Picture(NamedTuple):
    """One of docs/figures."""

    file: str
    """Its name; made by benchmarks/figures.py."""
    experiment: str
    """Below whose tables it stands."""
    after: str
    """The papers' table or figure that it is after."""
    caption: str
    """What it shows, in Markdown."""


PICTURES = (
    Picture(
        "white_errors.png",
        "bsd68",
        "GAN2GAN Table 2",
        "White noise of sigma 25 on a photograph (scikit-image's camera, CC0). From left to right"
        " noisy, Noise2Void, Neighbor2Neighbor, IDDP, GAN2GAN, supervised, the networks of the "
        "first table, each above its error (white from 64 grey levels on): errors lie where there"
        " is detail; Noise2Void, which throws the middle pixel away, has more of them at edges.",
    ),
    Picture(
        "correlated_errors.png",
        "bsd68",
        "GAN2GAN Table 3",
        "Correlated noise of sigma 25 on a photograph (scikit-image's camera, CC0). From left to "
        "right noisy, Noise2Void, Neighbor2Neighbor, IDDP, GAN2GAN, supervised, the networks of "
        "the table of that noise, each above its error (white from 64 grey levels on): what takes"
        " noise for independent between pixels leaves blotches of the noise's own size.",
    ),
    Picture(
        "iddp_residual.svg",
        "bsd68",
        "IDDP Figure 4",
        "White noise of sigma 25 (filled) and what IDDP removes (line), all of BSD68: what is "
        "removed is a little weaker than the noise.",
    ),
    Picture(
        "stop_gradient.png",
        "bsd68",
        "IDDP Figure 7",
        "Eq. (11) as the paper has it, on the photograph of the first picture. From left to right"
        " noisy, after the warm start, then trained on with stop-gradient and without, each above"
        " its error (white from 64 grey levels on). Two networks that were trained once more for "
        "this picture, ten minutes on one thread: with stop-gradient the noise comes back, "
        "without it all but the coarsest is lost.",
    ),
    Picture(
        "gan2gan_rounds.svg",
        "bsd68",
        "GAN2GAN Figure 6",
        "PSNR of `gan2gan` after each round on correlated noise, from the short preset's start "
        "(0: what that gave) and from the noisy images (0: those), both within ten minutes.",
    ),
    Picture(
        "colour_errors.png",
        "bsd300",
        "IDDP Table 1",
        "Clipped white noise of sigma 25 on a photograph (scikit-image's chelsea, CC0). From left"
        " to right noisy, Blind2Unblind, IDDP, supervised, the networks of the table of clipped "
        "Gaussian noise, each above its error (mean over RGB, white from 64 grey levels on): fur "
        "and whiskers are what is lost.",
    ),
    Picture(
        "em_errors.png",
        "em",
        "ISCL Figure 5",
        "A micrograph (rat spinal cord, axondeepseg/data_axondeepseg_sem, MIT) with synthetic "
        "film noise. From left to right noisy, UIDNet, ISCL, supervised, networks that were "
        "trained as those of the table, on other specimens, each above its error (white from 64 "
        "grey levels on). The micrograph has grain of its own, which stands in the errors where "
        "it was taken off.",
    ),
    Picture(
        "iscl_convergence.svg",
        "convergence",
        "ISCL Figure 7",
        "PSNR of F(x) while it trains, film noise: CycleGAN, ISCL from random weights, ISCL with its start.",
    ),
    Picture(
        "em_charging.png",
        "em-real",
        "ISCL Figure 6",
        "Charging (rosalindfranklininstitute/chafer, Apache-2.0), ISCL beside a clean set of "
        "another tissue, and three times what it removed: an example of what not to do "
        "([iscl](methods/iscl.md)).",
    ),
    Picture(
        "wide_field_rounds.svg",
        "wf",
        "GAN2GAN Figure 6",
        "PSNR of `gan2gan` after each round on FMD's wide-field images, from the short preset's "
        "start (0: what that gave) and from the noisy images (0: those), both within five "
        "minutes.",
    ),
    Picture(
        "noisy_n2n.svg",
        "noisy-n2n",
        "GAN2GAN Figure 1",
        "PSNR after each round of Noisy N2N, from estimates of three qualities (0: the estimates "
        "themselves, of the training images) and from clean images: good and bad estimates end "
        "within 0.1 dB of each other.",
    ),
    Picture(
        "ct_errors.png",
        "ct",
        "ISCL Figure 4",
        "A chest slice at a simulated quarter of its dose (COVID-19-NY-SBU, CC BY 4.0): noisy, "
        "Gaussian filter of 1 px, ISCL, each above its error, white from 100 HU on, against a "
        "slice that has noise of its own.",
    ),
    Picture(
        "phantom_errors.png",
        "ct-dose",
        "GAN2GAN Figure 4",
        "The phantom at 10 % of the dose (LCD_CT, CC0): noisy, Gaussian filter of 2 px, "
        "Noise2Void, IDDP, GAN2GAN, each above its error, white from 100 HU on. GAN2GAN takes the"
        " faint discs off with the noise.",
    ),
    Picture(
        "noise_patches.svg",
        "patches",
        "GAN2GAN Figure 2",
        "Deviations of the patches that rules (4) (filled) and (3) (line) choose, white noise of sigma 25.",
    ),
)


def page() -> str:
    """Preface, index of the papers' tables, then each experiment's tables.

    For each preset that has a measured cell.
    """
    parts = [(ROOT / "docs" / "results_preface.md").read_text(encoding="utf-8").rstrip()]
    links: dict[str, list[str]] = {}
    for picture in PICTURES:
        links.setdefault(picture.after, []).append(
            f"[{picture.file.partition('.')[0]}](figures/{picture.file})"
        )
    shown_at = {item: "; ".join(found) for item, found in links.items()}
    parts.append(
        "## The papers' tables and figures\n\n" + index(ROOT / "benchmarks" / "results", shown_at)
    )
    for name, experiment in EXPERIMENTS.items():
        results = read_results(ROOT / "benchmarks" / "results" / name)
        for preset in BENCH_PRESETS:
            cells = cells_of(experiment, preset)
            if any(cell.name in results and cell.preset == preset for cell in cells):
                parts.append(markdown(experiment, preset, cells, results))
        shown = [picture for picture in PICTURES if picture.experiment == name]
        parts += [
            f"![After {picture.after}](figures/{picture.file})\n\n{picture.caption}"
            for picture in shown
        ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
