"""``pairfree diagnose``, ``evaluate`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pairfree.cli.options import Inputs, ordered, spell_flags
from pairfree.cli.terminal import check_json, err, out, write_json
from pairfree.evidence.order import EvaluationOrder


def diagnose(
    noisy: Inputs,
    clean: Annotated[
        bool, typer.Option("--clean", help="You have clean images of other scenes.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page with pictures and all numbers there, such as noise.html."),
    ] = None,
    scene: Annotated[
        str | None, typer.Option(help="Of files of several images: a number from 0, or all.")
    ] = None,
    nan: Annotated[
        str, typer.Option(help="Pixels that are NaN or Inf: mask takes their neighbours, or error.")
    ] = "mask",
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write words and numbers there too.")
    ] = None,
) -> None:
    """Say what the noise is like, which method fits, and why."""
    from pairfree.diagnosis.diagnose import diagnose as diagnose_images
    from pairfree.diagnosis.page import check_page, write_page
    from pairfree.evidence.numbers import format_fixed

    check_json(json_path)
    if report is not None:
        check_page(report)
    found = diagnose_images(noisy, clean=clean, nan=nan, scene=scene)
    for line in found.words:
        out.print(line)
    out.print(spell_flags(found.unknown))
    table = Table("file", "level", "gain", "rows", "columns")
    for one in found.facts.files:
        shared = format_fixed(one.correlation_x, 2), format_fixed(one.correlation_y, 2)
        table.add_row(one.name, str(one.level), one.gain_text, *shared)
    out.print(table)
    out.print(
        f"level: deviation of the noise, {found.facts.unit}; gain: growth of its variance with the "
        "brightness, ? where it may not grow; rows, columns: correlation of neighbours along them"
    )
    out.print(spell_flags(found.advice))
    for line in found.warnings:
        err.print(f"note: {spell_flags(line)}")
    if report is not None:
        write_page(report, found, title=_name_inputs(noisy))
    if json_path is not None:
        write_json(json_path, found.as_dict())


def _name_inputs(inputs: list[str]) -> str:
    """Such as "cells.tif" or "cells.tif and 8 more"."""
    first = Path(inputs[0]).name or inputs[0]
    return first if len(inputs) == 1 else f"{first} and {len(inputs) - 1} more"


@ordered(EvaluationOrder)
def evaluate(
    given: dict[str, Any],
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers there too.")
    ] = None,
) -> None:
    """Score denoised files against clean ones, gather evidence against the noisy ones, examine a run."""
    from pairfree.api import evaluate as evaluate_files
    from pairfree.evidence.rows import ORDER, count_alarms

    check_json(json_path)
    found = evaluate_files(**given)
    mean = found.mean_score
    if mean is not None:
        table = Table("file", "PSNR dB", "SSIM", "NRMSE")
        for name, one in {**found, f"mean of {len(found)}": mean}.items():
            table.add_row(name, f"{one.psnr_db:.2f}", f"{one.ssim:.4f}", f"{one.nrmse:.4f}")
        out.print(table)
        out.print(found.scores_statement)
    for row in sorted(found.rows, key=lambda row: -ORDER[row.level]):
        out.print(f"- {spell_flags(row.sentence)}")
    if found.rows:
        out.print(count_alarms(found.rows))
    if json_path is not None:
        write_json(json_path, found.as_dict())


def verify(
    given: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="An input file, or the folder of all.", show_default=False
        ),
    ],
    result: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Its result, or the folder of results.", show_default=False
        ),
    ],
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the checks there too.")
    ] = None,
    any_scale: Annotated[
        bool,
        typer.Option(
            "--any-scale",
            help="State gains, judge the rest: for methods that restore brightness, such as iscl.",
        ),
    ] = False,
    scene: Annotated[
        str | None, typer.Option(help="As it was given to denoise: a number from 0, or all.")
    ] = None,
) -> None:
    """Tell what results kept of their inputs and what was lost; exit code 1 when something was."""
    from dataclasses import asdict

    from pairfree.files import fidelity
    from pairfree.files.scale import GAINS

    check_json(json_path)
    verified = fidelity.verify(given, result, any_scale, scene)
    found = verified.files
    marks = {True: "kept", False: "LOST", None: "stated"}
    for name, checks in found.items():
        table = Table("property", "input", "result", "", title=name, title_justify="left")
        for one in checks:
            table.add_row(
                one.name,
                one.before,
                one.after,
                marks[one.kept],
                style="red" if one.kept is False else None,
            )
        out.print(table)
    lost = [one.name for checks in found.values() for one in checks if one.kept is False]
    summary = f"{len(lost)} properties lost" if lost else "nothing lost"
    out.print(f"{len(found)} file{'s' * (len(found) != 1)}: {summary}")
    count = len(verified.not_judged)
    if count:
        which = "1 file" if count == 1 else f"{count} files"
        out.print(f"The pixels of {which} could not be judged: too small, or too little contrast.")
    if set(lost) & set(GAINS):
        out.print(
            "A method with a clean set, such as iscl, may change the scale on purpose: --any-scale only "
            "states it."
        )
    if json_path is not None:
        listed = {name: [asdict(one) for one in checks] for name, checks in found.items()}
        write_json(json_path, listed)
    if lost:
        raise typer.Exit(1)
