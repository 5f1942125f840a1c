"""``pairfree train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pairfree.cli.options import ordered
from pairfree.cli.terminal import follows, out, progress
from pairfree.config import did_you_mean, to_toml
from pairfree.errors import ConfigError
from pairfree.training.order import Order, place_order

_say = logging.getLogger("pairfree")
if TYPE_CHECKING:
    from pairfree.training.job import Job


@ordered(Order)
def train(
    given: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file; a run's config.toml repeats that run. Options given beside it win."
        ),
    ] = None,
    settings_: Annotated[
        bool,
        typer.Option(
            "--settings",
            help="Print every setting of --method and its value in each preset, and stop.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Read and check everything, print the settings, train nothing."
        ),
    ] = False,
) -> None:
    """Train a denoiser on noisy files."""
    if settings_:
        return print_settings(place_order(given, config))
    folder = given["out"]
    if given["resume"]:
        if dry_run:
            raise ConfigError(
                "--dry-run and --resume exclude each other: a run to be resumed was checked when it began"
            )
        _train_with_bar(given, config)
    else:
        order = place_order(given, config)
        if order.noisy is None:
            raise ConfigError("no noisy images given: pairfree train NOISY... --out RUN")
        if dry_run:
            return show_order(order)
        _train_with_bar({**given, "command": command_of_this_call()}, config)
    if follows():
        return
    out.print(f"run:    {folder}")
    if (folder / "report.html").is_file():
        out.print(f"report: {folder / 'report.html'}")
    out.print(f"next:   pairfree denoise {folder} FILES... --out DIR")


def command_of_this_call() -> str:
    """What was typed, as the report shows it."""
    from pairfree.training.paragraph import command_line

    return command_line(sys.argv[1:])


def _train_with_bar(given: dict[str, Any], config: Path | None) -> None:
    from pairfree import api

    with progress("train") as bar:

        def on_step(done: int, total: int, stage: str, loss: float | None) -> Any:
            words = stage if loss is None else f"{stage}  loss {loss:.3g}"
            return bar(done, total, words)

        api.train(config=config, on_step=on_step, **given)


def show_order(order: Order) -> None:
    """Read and check everything; what a run would be, as TOML, and warnings beside it."""
    from pairfree.engine.run import RunFolder
    from pairfree.training.job import resolve

    RunFolder(Path(str(order.out))).check_free()
    job = resolve(order)
    if job.choice is not None:
        job.choice.tell()
    out.print_lines(to_toml(_as_toml(job)))
    for line in job.warnings:
        _say.warning("%s", line)


def _as_toml(job: Job) -> dict[str, Any]:
    data = {
        "images": len(job.noisy.planes),
        "channels": job.noisy.channels,
        "pixels": job.noisy.pixels,
        "bytes_held": job.data.nbytes + job.noisy.nbytes,
        **job.normalizer.as_dict(),
    }
    found: dict[str, Any] = {
        "method": job.method.key,
        "preset": job.preset,
        "minutes": job.minutes,
        "steps": job.steps,
        "seed": job.seed,
        "device": str(job.device),
        "data": data,
    }
    if job.clean_normalizer is not None and job.data.clean is not None:
        found["clean"] = {"images": len(job.data.clean), **job.clean_normalizer.as_dict()}
    return {**found, "settings": job.config}


def print_settings(order: Order) -> None:
    """Every setting of a method: its type, its value in each preset, and what it means.

    Names that are given beside it are checked, as training does.
    """
    from pairfree.training.settings import list_settings

    method = order.method
    if not isinstance(method, str):
        raise ConfigError("--settings needs --method: the settings are those of one method")
    rows = list_settings(method)
    names = [row.name for row in rows]
    for name in order.settings or {}:
        if name not in names:
            raise ConfigError(f"{method} has no setting {name!r}{did_you_mean(name, names)}")
    presets = list(rows[0].defaults) if rows else []
    table = Table("setting", "type", *presets, "meaning", title_justify="left", show_lines=True)
    for row in rows:
        values = [str(row.defaults[preset]) for preset in presets]
        table.add_row(row.name, row.kind, *values, row.meaning)
    out.print(table)
