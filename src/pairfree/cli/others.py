"""``pairfree simulate``, ``info``, ``demo`` and ``bench``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from pairfree.cli.options import Device, Inputs, Overwrite, Seed, spell_flags
from pairfree.cli.terminal import err, out, progress
from pairfree.errors import ConfigError
from pairfree.plain import NOTE


def simulate(
    clean: Inputs,
    noise: Annotated[
        str,
        typer.Option(
            help="For example gaussian:sigma=25, poisson:lam=30, film; law:FILE, as diagnose wrote it to "
            "JSON. Grey levels of 8 bits; HU in DICOM files.",
            show_default=False,
        ),
    ],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the noisy files.", show_default=False)
    ],
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_float: Annotated[
        bool,
        typer.Option(
            "--float", help="Write unclipped float32 TIFF instead of the input's format and type."
        ),
    ] = False,
) -> None:
    """Add noise of a stated kind to clean files, or to N scenes that are drawn first (scenes:N).

    The noise is a function of the seed and of the file's name.
    """
    from pairfree.noise.files import simulate as simulate_files

    done = simulate_files(clean, noise, out_dir, seed=seed, overwrite=overwrite, as_float=as_float)
    clipped = sum(one.clipped for one in done)
    out.print(f"{len(done)} files -> {out_dir}")
    if clipped:
        kept = "pixels clipped to the pixel type's range; `as_float` keeps them"
        logging.getLogger("pairfree").log(NOTE, "%d %s", clipped, kept)


def info(
    path: Annotated[
        Path,
        typer.Argument(help="A run folder, a checkpoint or an image file.", show_default=False),
    ],
) -> None:
    """Tell what a run, a checkpoint or an image file holds."""
    from pairfree.inspection import info as describe

    for name, value in describe(path):
        out.print(f"{name + ':':<20}{spell_flags(value)}")


def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path(
        "pairfree-demo"
    ),
    minutes: Annotated[float, typer.Option(help="Training budget in minutes.")] = 0.5,
) -> None:
    """Train on real noisy images that come with pairfree, denoise them, write a report."""
    from pairfree import demo as demonstration

    with progress("demo") as bar:
        written = demonstration.run(
            out_dir,
            minutes,
            lambda done, total, stage, loss: bar(done, total, stage),
            lambda line: out.print(line),
        )
    for path in written.denoised:
        out.print(f"denoised: {path}")
    if written.report is not None:
        out.print(f"report:   {written.report}")


def bench(  # noqa: PLR0913, PLR0917 - the options of the verb
    name: Annotated[
        str | None,
        typer.Argument(help="Experiment; without it, the tables and which cells are measured."),
    ] = None,
    preset: Annotated[str, typer.Option(help="cpu, paper or paper-200k.")] = "cpu",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only cells whose name holds this text; may be repeated, all must hold."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data sets; default $PAIRFREE_DATA.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of results.")] = Path(
        "benchmarks/results"
    ),
    device: Device = "auto",
    minutes: Annotated[
        float | None, typer.Option(help="Another training budget than the preset's.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Comma-separated: only these of the experiment's seeds.")
    ] = None,
) -> None:
    """Measure: one experiment a table, cells cached and resumable."""
    from pairfree.bench import harness, overview

    if name is None:
        out.print_lines(overview.overview(out_dir))
        return
    try:
        chosen = None if seeds is None else [int(one) for one in seeds.split(",")]
    except ValueError:
        raise ConfigError(
            f"--seeds {seeds!r}: expected whole numbers and commas, such as 0,1,2"
        ) from None
    with progress(f"bench {name}") as bar:
        table = harness.run(
            name,
            preset=preset,
            only=only or [],
            data=data,
            out=out_dir,
            device=device,
            minutes=minutes,
            seeds=chosen,
            say=lambda line: err.print(line),
            on_step=lambda done, total, stage, loss: bar(done, total, stage),
        )
    out.print_lines(table)
