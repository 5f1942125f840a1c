"""The command line: verbs and exit codes; no logic.

Exit codes: 0 ok, 2 user error, 3 diverged, 4 busy, 130 stopped by a signal.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperCommand

from pairfree.errors import ConfigError, InputError, PairfreeError

if TYPE_CHECKING:
    from pairfree.job import Job

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Train an image denoiser without clean/noisy pairs."
)
out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

Inputs = Annotated[list[str], typer.Argument(help="Files, folders or globs.", show_default=False)]
METHOD_HELP = (
    "Noisy files only: iddp, nb2nb, n2v, n2s, b2u, cvf-sid, gan2gan, bm3d; dip, s2s (each image by itself). With --clean: iscl, cyclegan, "
    "uidnet, gcbd, dncnn-b, and quan (also --noise-images). With --target: n2n, n2c, and noisy-n2n (also --noise-images). Default: that of "
    "--init, else iscl with --clean, else iddp."
)
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SeedOption = Annotated[int, typer.Option(help="Everything random follows from it.")]


def main() -> None:
    """Entry point: one line for what went wrong, and its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        if isinstance(code, int) and code:  # typer turns Ctrl-C into a returned 130
            fail("stopped; files that were finished stand, none is half-written", code)
    except PairfreeError as error:
        fail(str(error), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        fail("stopped", 130)
    except Exception as error:  # click's usage errors carry their own words and code
        if hasattr(error, "format_message"):
            fail(error.format_message(), getattr(error, "exit_code", 2))
        raise


def fail(message: str, code: int) -> None:
    err.print("pairfree: " + " ".join(message.split()), style="red", markup=False)
    sys.exit(code)


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A function (done, total, words) that draws a bar on a terminal and nothing elsewhere; None leaves a number as it is."""
    if not err.is_terminal:
        yield lambda done, total, words: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


class TrainCommand(TyperCommand):
    """``train NOISY... --clean A B C``: all that follows --clean up to the next option is clean, where noisy files were named before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = [name for parameter in self.params if getattr(parameter, "is_flag", False) for name in parameter.opts]
        return super().parse_args(ctx, several(args, "--clean", [*flags, "--help"]))


def several(arguments: list[str], option: str, flags: Collection[str] = ()) -> list[str]:
    """``option A B`` as ``option A option B``, wherever an argument stands before it; ``flags`` are the options that take no value."""
    found: list[str] = []
    named, under, value = False, False, False
    for argument in arguments:
        if argument.startswith("-") and not value:
            under = argument == option
            value = argument not in flags and "=" not in argument
        else:
            if under and not value:
                found += [option] if named else []
            named = named or not (value or under)
            value = False
        found.append(argument)
    return found


@app.command(cls=TrainCommand)
def train(
    noisy: Annotated[list[str] | None, typer.Argument(help="Noisy files, folders or globs.", show_default=False)] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder to write.")] = Path("run"),
    clean: Annotated[list[Path] | None, typer.Option(help="Unpaired clean images of other scenes; one or more, after NOISY.")] = None,
    target: Annotated[Path | None, typer.Option(help="Partner of each noisy file, by name (n2c, n2n, noisy-n2n).")] = None,
    noise_images: Annotated[Path | None, typer.Option(help="Images of the noise alone (quan, noisy-n2n).")] = None,
    method: Annotated[
        str | None,
        typer.Option(help=METHOD_HELP),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes. Default: the preset's, 10 with cpu.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="cpu (short budgets, the default), paper, or paper-200k (its schedule, a tenth as long).")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Run folder to fine-tune from.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file; a run's config.toml repeats that run. Options given beside it win.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, changes one setting; may be repeated.")] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it. Default 0.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, print the settings, train nothing.")] = False,
) -> None:
    """Train a denoiser on noisy files."""
    from pairfree import api
    from pairfree.config import parse_set
    from pairfree.engine.run import RunFolder, again
    from pairfree.job import check_resumed, resolve
    from pairfree.story import command_line

    given = again(config) if config is not None else {}
    settings = {**given.pop("settings", {}), **parse_set(set_ or [])}
    listed = given.pop("noisy", None)
    sources = noisy or listed
    images: dict[str, Any] = {"clean": clean or None, "target": target, "noise_images": noise_images}
    options = {"method": method, "preset": preset, "seed": seed, "init": init, **images}
    if minutes is not None or steps is not None:
        given = {key: value for key, value in given.items() if key not in ("minutes", "steps")} | {"minutes": minutes, "steps": steps}
    if any(options[key] is not None and options[key] != given.get(key, options[key]) for key in ("method", "preset")):
        settings = parse_set(set_ or [])  # the file's settings are those of another method or preset
    chosen: dict[str, Any] = {"preset": "cpu", "seed": 0, **given, **{key: value for key, value in options.items() if value is not None}}
    chosen["device"] = device
    if resume:
        if dry_run:
            raise ConfigError("--dry-run and --resume exclude each other: a run to be resumed was checked when it began")
        said = {"method": method, "preset": preset, "seed": seed, "minutes": minutes, "steps": steps, "init": init and str(init.absolute())}
        check_resumed(out_dir, {key: value for key, value in said.items() if value is not None}, settings)
        # files may have been moved; that their pixels are the same is checked
        _with_bar(lambda on_step: api.train(noisy or None, out=out_dir, resume=True, device=device, on_step=on_step, **images))
    elif not sources:
        raise ConfigError("no noisy images given: pairfree train NOISY... --out RUN")
    elif dry_run:
        RunFolder(out_dir).check_free()
        return _show(resolve(sources, settings=settings, **chosen))
    else:
        command = command_line(sys.argv[1:])
        _with_bar(lambda on_step: api.train(sources, out=out_dir, settings=settings, command=command, on_step=on_step, **chosen))
    report = f"report: {out_dir / 'report.html'}\n" if (out_dir / "report.html").is_file() else ""
    out.print(f"run:    {out_dir}\n{report}next:   pairfree denoise {out_dir} FILES... --out DIR", markup=False)


def _show(job: Job) -> None:
    """What a run would be, as TOML; warnings beside it."""
    from pairfree.config import to_toml

    facts = {
        "method": job.method.key,
        "preset": job.preset,
        "minutes": job.minutes,
        "steps": job.steps,
        "seed": job.seed,
        "device": str(job.device),
    }
    data = {"images": len(job.noisy.planes), "channels": job.noisy.channels, "pixels": job.noisy.pixels, **job.normalizer.as_dict()}
    clean = {}
    if job.clean_normalizer is not None and job.data.clean is not None:
        clean = {"clean": {"images": len(job.data.clean), **job.clean_normalizer.as_dict()}}
    out.print(to_toml({**facts, "data": data, **clean, "settings": job.config}), markup=False, end="")
    for line in job.warnings:
        err.print(f"warning: {line}", markup=False)


def _with_bar(work: Any) -> Any:
    with progress("train") as bar:
        return work(lambda done, total, stage, loss: bar(done, total, f"{stage}" + (f"  loss {loss:.3g}" if loss is not None else "")))


@app.command()
def denoise(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    inputs: Inputs,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the denoised files.", show_default=False)],
    max_memory: Annotated[str, typer.Option(help="Bound for the network's working memory, beside the image itself, such as 2GB.")] = "2GB",
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    disagreement: Annotated[Path | None, typer.Option(help="Folder for maps of where the two denoisers differ (iscl).")] = None,
) -> None:
    """Denoise files; each comes back in its own format with its metadata."""
    from pairfree import api

    pixels = 0
    with progress("denoise") as bar:

        def on_pixels(count: int) -> None:
            nonlocal pixels
            pixels += count
            bar(None, None, f"{pixels / 1e6:,.1f} megapixels")

        results = api.denoise(
            run, inputs, out_dir, max_bytes=parse_bytes(max_memory), device=device, overwrite=overwrite, disagreement=disagreement,
            on_file=lambda done, total, result: bar(done, total, result.source.name), on_pixels=on_pixels,
        )  # fmt: skip
    for result in results:
        for line in result.warnings:
            err.print(f"warning: {result.source}: {line}", markup=False)
        if result.clipped:
            err.print(f"note: {result.source}: {result.clipped} of {result.pixels} pixels clipped to the pixel type's range", markup=False)
    out.print(
        f"{len(results)} file{'s' if len(results) != 1 else ''}, {sum(r.pixels for r in results):,} pixels -> {out_dir}", markup=False
    )


@app.command()
def evaluate(
    denoised: Annotated[Path, typer.Option(help="Folder of denoised files.", show_default=False)],
    clean: Annotated[Path | None, typer.Option(help="Folder of clean files of the same names.")] = None,
    noisy: Annotated[Path | None, typer.Option(help="Folder of the noisy files: evidence without ground truth.")] = None,
    data_range: Annotated[
        float | None, typer.Option(help="White minus black, 255 for 8 bits, 400 for [-160, 240] HU. Needed with --clean.")
    ] = None,
    low: Annotated[float, typer.Option(help="Black, in intensity units: -160 for [-160, 240] HU.")] = 0.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the numbers there too.")] = None,
) -> None:
    """Score denoised files against clean ones, or gather evidence against the noisy ones."""
    from pairfree import api, story

    if clean is None and noisy is None:
        raise ConfigError("evaluate needs --clean (scores) or --noisy (evidence without ground truth), or both")
    numbers: dict[str, Any] = {}
    if clean is not None:
        if data_range is None:
            raise ConfigError("--clean needs --data-range: PSNR and SSIM mean nothing without it (255 for 8-bit files)")
        scores = api.evaluate(denoised, clean, data_range, low=low)
        numbers["scores"] = {name: vars(one) for name, one in scores.items()}
        numbers["scores_statement"] = (
            f"data range {data_range:g}, both sides clipped to {low:g} .. {low + data_range:g}, mean over colour channels, "
            "SSIM window Gaussian sigma 1.5"
        )
        table = Table("file", "PSNR dB", "SSIM", "NRMSE")
        for name, one in scores.items():
            table.add_row(name, f"{one.psnr_db:.2f}", f"{one.ssim:.4f}", f"{one.nrmse:.4f}")
        mean = [sum(getattr(one, key) for one in scores.values()) / len(scores) for key in ("psnr_db", "ssim", "nrmse")]
        table.add_row(f"mean of {len(scores)}", f"{mean[0]:.2f}", f"{mean[1]:.4f}", f"{mean[2]:.4f}")
        out.print(table)
        out.print(numbers["scores_statement"])
    if noisy is not None:
        evidence = story.folder_evidence(noisy, denoised)
        numbers["evidence"] = {name: vars(one) for name, one in evidence.items()}
        for line in story.pooled_reading(evidence):
            out.print(f"- {line}", markup=False)
    if json_path is not None:
        from pairfree.files.atomic import write_text

        write_text(json_path, json.dumps(_nulls(numbers), indent=1, allow_nan=False) + "\n", overwrite=True)


@app.command()
def simulate(
    clean: Inputs,
    noise: Annotated[
        str,
        typer.Option(
            help="For example gaussian:sigma=25, poisson:lam=30, film. Grey levels of 8 bits; HU in DICOM files.", show_default=False
        ),
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the noisy files.", show_default=False)],
    seed: SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    float_: Annotated[bool, typer.Option("--float", help="Write unclipped float32 TIFF instead of the input's format and type.")] = False,
) -> None:
    """Add noise of a stated kind to clean files, drawn once, as a function of the seed and the file's name."""
    from pairfree.noise.files import simulate_files

    done = simulate_files(clean, noise, out_dir, seed=seed, overwrite=overwrite, as_float=float_)
    clipped = sum(one.clipped for one in done)
    out.print(f"{len(done)} files -> {out_dir}", markup=False)
    if clipped:
        err.print(f"note: {clipped} pixels clipped to the pixel type's range; --float keeps them", markup=False)


@app.command()
def info(path: Annotated[Path, typer.Argument(help="A run folder, a checkpoint or an image file.", show_default=False)]) -> None:
    """Tell what a run, a checkpoint or an image file holds."""
    from pairfree import facts

    for name, value in facts.about(path):
        out.print(f"{name + ':':<16}{value}", markup=False)


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("pairfree-demo"),
    minutes: Annotated[float, typer.Option(help="Training budget in minutes.")] = 2.0,
) -> None:
    """Train on real noisy images that come with pairfree, denoise them, write a report."""
    from pairfree import demo as demonstration

    with progress("demo") as bar:
        written = demonstration.run(
            out_dir, minutes, lambda done, total, stage, loss: bar(done, total, stage), lambda line: out.print(line, markup=False)
        )
    for path in written.denoised:
        out.print(f"denoised: {path}", markup=False)
    if written.report is not None:
        out.print(f"report:   {written.report}", markup=False)


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="Experiment; without it, the tables and which cells are measured.")] = None,
    preset: Annotated[str, typer.Option(help="cpu, paper or paper-200k.")] = "cpu",
    only: Annotated[list[str] | None, typer.Option(help="Only cells whose name holds this text; may be repeated, all must hold.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of data sets; default $PAIRFREE_DATA.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of results.")] = Path("benchmarks/results"),
    device: DeviceOption = "auto",
    minutes: Annotated[float | None, typer.Option(help="Another training budget than the preset's.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated: only these of the experiment's seeds.")] = None,
) -> None:
    """Measure: one experiment a table, cells cached and resumable."""
    from pairfree.bench import harness

    if name is None:
        out.print(harness.overview(out_dir), markup=False)
        return
    try:
        chosen = None if seeds is None else [int(one) for one in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: expected whole numbers and commas, such as 0,1,2") from None
    with progress(f"bench {name}") as bar:
        table = harness.run(
            name, preset=preset, only=only or [], data=data, out=out_dir, device=device, minutes=minutes, seeds=chosen,
            say=lambda line: err.print(line, markup=False), on_step=lambda done, total, stage, loss: bar(done, total, stage),
        )  # fmt: skip
    out.print(table, markup=False)


def _nulls(value: Any) -> Any:
    """NaN and Inf are no JSON: null in their place."""
    if isinstance(value, dict):
        return {key: _nulls(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_bytes(text: str) -> float:
    """ "2GB", "500 MB", "1.5GiB" or a plain number of bytes."""
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    number = text.strip().lower().rstrip("bgikmt ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise InputError(f"--max-memory {text!r}: expected a size such as 2GB or 500MiB") from None
    if not 0 < value < math.inf:
        raise InputError(f"--max-memory {text!r}: must be positive and finite")
    return value


if __name__ == "__main__":
    main()
