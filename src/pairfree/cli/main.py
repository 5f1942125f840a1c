"""The command line: verbs and exit codes; no logic.

Exit codes: 0 ok, 1 verify found a loss, 2 user error, 3 diverged, 4 busy, 130 stopped by a signal.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pairfree.cli.terminal import TrainCommand, err, follows, nulls, out, parse_bytes, progress
from pairfree.errors import ConfigError, PairfreeError

if TYPE_CHECKING:
    from pairfree.denoising.files import Planned
    from pairfree.training.job import Job

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train an image denoiser without clean/noisy pairs.",
)

Inputs = Annotated[list[str], typer.Argument(help="Files, folders or globs.", show_default=False)]
METHOD_HELP = (
    "Noisy files only: iddp, nb2nb, n2v, n2s, b2u, cvf-sid, gan2gan, bm3d; dip, s2s (each image by itself). With --clean: iscl, cyclegan, "
    "uidnet, gcbd, dncnn-b, and quan (also --noise-images). With --target: n2n, n2c, and noisy-n2n (also --noise-images). Default: that of "
    "--init, else iscl with --clean, else iddp."
)
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
NanOption = Annotated[
    str | None,
    typer.Option(
        help="Pixels that are NaN or Inf: error (default), or mask, which trains on their neighbours' mean and leaves them in results."
    ),
]
TrainingMemory = Annotated[
    str | None,
    typer.Option(
        help="Bound for the memory of training, such as 4GB: of larger sets, crops. Default: 2 GB of pixels a set."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Everything random follows from it.")]


def main() -> None:
    """Entry point: one line for what went wrong, and its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into that
            fail("stopped; files that were finished stand, none is half-written", code)
        if isinstance(code, int) and code:
            sys.exit(code)
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


@app.command(cls=TrainCommand)
def train(
    noisy: Annotated[
        list[str] | None, typer.Argument(help="Noisy files, folders or globs.", show_default=False)
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder to write.")] = Path("run"),
    clean: Annotated[
        list[Path] | None,
        typer.Option(help="Unpaired clean images of other scenes; one or more, after NOISY."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="Partner of each noisy file, by name (n2c, n2n, noisy-n2n).")
    ] = None,
    noise_images: Annotated[
        Path | None, typer.Option(help="Images of the noise alone (quan, noisy-n2n).")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help=METHOD_HELP),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget in minutes. Default: the preset's, 10 with cpu.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="cpu (short budgets, the default), paper, or paper-200k (its schedule, a tenth as long)."
        ),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Run folder to fine-tune from.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file; a run's config.toml repeats that run. Options given beside it win."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, changes one setting; may be repeated.")
    ] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it. Default 0.")] = None,
    nan: NanOption = None,
    slices_around: Annotated[
        int | None,
        typer.Option(
            help="2.5-D: slices of a stack on each side that the network sees with each. Default 0."
        ),
    ] = None,
    max_memory: TrainingMemory = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, print the settings, train nothing.")
    ] = False,
) -> None:
    """Train a denoiser on noisy files."""
    from pairfree import api
    from pairfree.config import parse_set
    from pairfree.engine.run import RunFolder, again
    from pairfree.training.job import check_resumed, resolve
    from pairfree.training.report import command_line

    given = again(config) if config is not None else {}
    settings = {**given.pop("settings", {}), **parse_set(set_ or [])}
    listed = given.pop("noisy", None)
    sources = noisy or listed
    images: dict[str, Any] = {"clean": clean or None, "target": target, "noise_images": noise_images}
    options = {"method": method, "preset": preset, "seed": seed, "init": init, "nan": nan, **images}
    options |= {
        "slices_around": slices_around,
        "max_bytes": None if max_memory is None else parse_bytes(max_memory),
    }
    if minutes is not None or steps is not None:
        given = {key: value for key, value in given.items() if key not in ("minutes", "steps")} | {
            "minutes": minutes,
            "steps": steps,
        }
    if any(
        options[key] is not None and options[key] != given.get(key, options[key])
        for key in ("method", "preset")
    ):
        settings = parse_set(set_ or [])  # the file's settings are those of another method or preset
    chosen: dict[str, Any] = {
        "preset": "cpu",
        "seed": 0,
        **given,
        **{key: value for key, value in options.items() if value is not None},
    }
    chosen["device"] = device
    if resume:
        if dry_run:
            raise ConfigError(
                "--dry-run and --resume exclude each other: a run to be resumed was checked when it began"
            )
        said: dict[str, Any] = {
            "method": method,
            "preset": preset,
            "seed": seed,
            "minutes": minutes,
            "steps": steps,
            "nan": nan,
        }
        said |= {"slices_around": slices_around, "max_bytes": options["max_bytes"]}
        said["init"] = init and str(init.absolute())
        check_resumed(out_dir, {key: value for key, value in said.items() if value is not None}, settings)
        # files may have been moved; that their pixels are the same is checked
        _with_bar(
            lambda on_step: api.train(
                noisy or None, out=out_dir, resume=True, device=device, on_step=on_step, **images
            )
        )
    elif not sources:
        raise ConfigError("no noisy images given: pairfree train NOISY... --out RUN")
    elif dry_run:
        RunFolder(out_dir).check_free()
        return _show(resolve(sources, settings=settings, **chosen))
    else:
        command = command_line(sys.argv[1:])
        _with_bar(
            lambda on_step: api.train(
                sources, out=out_dir, settings=settings, command=command, on_step=on_step, **chosen
            )
        )
    if not follows():
        report = f"report: {out_dir / 'report.html'}\n" if (out_dir / "report.html").is_file() else ""
        out.print(
            f"run:    {out_dir}\n{report}next:   pairfree denoise {out_dir} FILES... --out DIR", markup=False
        )


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
    counts = {"images": len(job.noisy.planes), "channels": job.noisy.channels, "pixels": job.noisy.pixels}
    data = {**counts, "bytes_held": job.data.nbytes + job.noisy.nbytes, **job.normalizer.as_dict()}
    clean = {}
    if job.clean_normalizer is not None and job.data.clean is not None:
        clean = {"clean": {"images": len(job.data.clean), **job.clean_normalizer.as_dict()}}
    out.print(to_toml({**facts, "data": data, **clean, "settings": job.config}), markup=False, end="")
    for line in job.warnings:
        err.print(f"warning: {line}", markup=False)


def _with_bar(work: Any) -> Any:
    with progress("train") as bar:
        return work(
            lambda done, total, stage, loss: bar(
                done, total, f"{stage}" + (f"  loss {loss:.3g}" if loss is not None else "")
            )
        )


@app.command()
def denoise(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    inputs: Inputs,
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the denoised files.", show_default=False)
    ],
    max_memory: Annotated[
        str, typer.Option(help="Bound for the memory of this process, such as 2GB.")
    ] = "2GB",
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Leave existing outputs as they are, do the rest.")
    ] = False,
    nan: NanOption = None,
    disagreement: Annotated[
        Path | None, typer.Option(help="Folder for maps of where the two denoisers differ (iscl).")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Work on a Dask cluster: an address such as tcp://host:8786, or local:N for N processes here."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, tell what it will take, write nothing.")
    ] = False,
) -> None:
    """Denoise files; each comes back in its own format with its metadata. Stopped or killed, the same command goes on where it stood."""
    from pairfree import api
    from pairfree.denoising.files import denoise_files

    planned = api.plan_denoising(
        run, inputs, out_dir, max_bytes=parse_bytes(max_memory), device=device, overwrite=overwrite, skip_done=skip_done,
        disagreement=disagreement, nan=nan or "error",
    )  # fmt: skip
    if dry_run:
        return _foretell(planned, out_dir)
    started, done = time.monotonic(), 0
    with progress("denoise") as bar:

        def on_pixels(count: int) -> None:
            nonlocal done
            done += count
            bar(done / 1e6, planned.left.pixels / 1e6, "megapixels")

        results = denoise_files(planned, None, on_pixels, scheduler)
    for result in results:
        for line in result.warnings:
            err.print(f"warning: {result.source}: {line}", markup=False)
        if result.clipped:
            err.print(
                f"note: {result.source}: {result.clipped} of {result.pixels} pixels clipped to the pixel type's range",
                markup=False,
            )
    words = f"{len(results)} file{'s' if len(results) != 1 else ''}, {sum(r.pixels for r in results):,} pixels -> {out_dir}"
    before, clipped = sum(result.before for result in results), sum(result.clipped for result in results)
    further = [
        f"{time.monotonic() - started:.0f} s",
        *([f"{before} done before"] if before else []),
        f"{clipped:,} pixels clipped",
    ]
    out.print(
        f"{words} ({', '.join(further)}, {sum(len(r.warnings) for r in results)} warnings)", markup=False
    )


def _foretell(planned: Planned, out_dir: Path) -> None:
    """What denoising will take."""
    from pairfree.denoising.files import memory_needed, seconds_needed
    from pairfree.files.atomic import free_bytes
    from pairfree.files.messages import size_text

    for entry, path, _ in planned.files:
        out.print(f"{entry.path} -> {path}{' (done before)' if path in planned.before else ''}", markup=False)
    tile = planned.model.predictor.core_px
    memory, on_gpu = memory_needed(planned)
    seconds, why = seconds_needed(planned)
    free = free_bytes(out_dir)
    out.print(
        f"files:   {len(planned.files)}, {planned.pixels:,} pixels, {planned.left.pixels:,} of them to do",
        markup=False,
    )
    out.print(
        f"tiles:   {f'{tile} px' if tile else 'whole images'}, on {planned.model.method.device}", markup=False
    )
    gpu = f", and {size_text(on_gpu)} on the GPU" if on_gpu else ""
    out.print(
        f"memory:  up to {size_text(memory)}{gpu}, of {size_text(int(planned.max_bytes))} allowed",
        markup=False,
    )
    disk = planned.left.disk.needed + planned.left.map_disk.needed
    out.print(
        f"disk:    {size_text(disk)} needed, {size_text(free) if free is not None else 'unknown'} free",
        markup=False,
    )
    out.print(f"time:    about {seconds:.0f} s, {why}", markup=False)


@app.command()
def evaluate(
    denoised: Annotated[Path, typer.Option(help="Folder of denoised files.", show_default=False)],
    clean: Annotated[Path | None, typer.Option(help="Folder of clean files of the same names.")] = None,
    noisy: Annotated[
        Path | None, typer.Option(help="Folder of the noisy files: evidence without ground truth.")
    ] = None,
    data_range: Annotated[
        float | None,
        typer.Option(help="White minus black, 255 for 8 bits, 400 for [-160, 240] HU. Needed with --clean."),
    ] = None,
    low: Annotated[float, typer.Option(help="Black, in intensity units: -160 for [-160, 240] HU.")] = 0.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the numbers there too.")] = None,
) -> None:
    """Score denoised files against clean ones, or gather evidence against the noisy ones."""
    from pairfree.evidence.folders import evaluate as score_folder
    from pairfree.training import report as story

    if clean is None and noisy is None:
        raise ConfigError(
            "evaluate needs --clean (scores) or --noisy (evidence without ground truth), or both"
        )
    numbers: dict[str, Any] = {}
    if clean is not None:
        if data_range is None:
            raise ConfigError(
                "--clean needs --data-range: PSNR and SSIM mean nothing without it (255 for 8-bit files)"
            )
        scores = score_folder(denoised, clean, data_range, low=low)
        numbers["scores"] = {name: vars(one) for name, one in scores.items()}
        numbers["scores_statement"] = (
            f"data range {data_range:g}, both sides clipped to {low:g} .. {low + data_range:g}, mean over colour channels, "
            "SSIM window Gaussian sigma 1.5"
        )
        table = Table("file", "PSNR dB", "SSIM", "NRMSE")
        for name, one in scores.items():
            table.add_row(name, f"{one.psnr_db:.2f}", f"{one.ssim:.4f}", f"{one.nrmse:.4f}")
        mean = [
            sum(getattr(one, key) for one in scores.values()) / len(scores)
            for key in ("psnr_db", "ssim", "nrmse")
        ]
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

        write_text(json_path, json.dumps(nulls(numbers), indent=1, allow_nan=False) + "\n", overwrite=True)


@app.command()
def verify(
    before: Annotated[
        Path, typer.Argument(metavar="IN", help="An input file, or the folder of all.", show_default=False)
    ],
    after: Annotated[
        Path, typer.Argument(metavar="OUT", help="Its result, or the folder of results.", show_default=False)
    ],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the checks there too.")] = None,
    any_scale: Annotated[
        bool,
        typer.Option(
            "--any-scale",
            help="State gains, judge the rest: for methods that restore brightness, such as iscl.",
        ),
    ] = False,
) -> None:
    """Tell what results kept of their inputs and what was lost; exit code 1 when something was."""
    from dataclasses import asdict

    from pairfree.files import fidelity
    from pairfree.files.scale import GAINS

    found = fidelity.verify(before, after, any_scale)
    marks = {True: "kept", False: "LOST", None: "stated"}
    for name, checks in found.items():
        table = Table("property", "input", "result", "", title=escape(name), title_justify="left")
        for one in checks:
            table.add_row(
                one.name,
                escape(one.before),
                escape(one.after),
                marks[one.kept],
                style="red" if one.kept is False else None,
            )
        out.print(table)
    lost = [one.name for checks in found.values() for one in checks if one.kept is False]
    summary = f"{len(lost)} properties lost" if lost else "nothing lost"
    out.print(f"{len(found)} file{'s' * (len(found) != 1)}: {summary}", markup=False)
    if set(lost) & set(GAINS):
        out.print(
            "A method with a clean set, such as iscl, may change the scale on purpose: --any-scale only states it.",
            markup=False,
        )
    if json_path is not None:
        from pairfree.files.atomic import write_text

        write_text(
            json_path,
            json.dumps({name: [asdict(one) for one in checks] for name, checks in found.items()}, indent=1)
            + "\n",
            True,
        )
    if lost:
        raise typer.Exit(1)


@app.command()
def simulate(
    clean: Inputs,
    noise: Annotated[
        str,
        typer.Option(
            help="For example gaussian:sigma=25, poisson:lam=30, film. Grey levels of 8 bits; HU in DICOM files.",
            show_default=False,
        ),
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the noisy files.", show_default=False)],
    seed: SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    float_: Annotated[
        bool,
        typer.Option("--float", help="Write unclipped float32 TIFF instead of the input's format and type."),
    ] = False,
) -> None:
    """Add noise of a stated kind to clean files, drawn once, as a function of the seed and the file's name."""
    from pairfree.noise.files import simulate_files

    done = simulate_files(clean, noise, out_dir, seed=seed, overwrite=overwrite, as_float=float_)
    clipped = sum(one.clipped for one in done)
    out.print(f"{len(done)} files -> {out_dir}", markup=False)
    if clipped:
        err.print(
            f"note: {clipped} pixels clipped to the pixel type's range; --float keeps them", markup=False
        )


@app.command()
def info(
    path: Annotated[
        Path, typer.Argument(help="A run folder, a checkpoint or an image file.", show_default=False)
    ],
) -> None:
    """Tell what a run, a checkpoint or an image file holds."""
    from pairfree import inspection as facts

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
            out_dir,
            minutes,
            lambda done, total, stage, loss: bar(done, total, stage),
            lambda line: out.print(line, markup=False),
        )
    for path in written.denoised:
        out.print(f"denoised: {path}", markup=False)
    if written.report is not None:
        out.print(f"report:   {written.report}", markup=False)


@app.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(help="Experiment; without it, the tables and which cells are measured.")
    ] = None,
    preset: Annotated[str, typer.Option(help="cpu, paper or paper-200k.")] = "cpu",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only cells whose name holds this text; may be repeated, all must hold."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of data sets; default $PAIRFREE_DATA.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of results.")] = Path("benchmarks/results"),
    device: DeviceOption = "auto",
    minutes: Annotated[float | None, typer.Option(help="Another training budget than the preset's.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Comma-separated: only these of the experiment's seeds.")
    ] = None,
) -> None:
    """Measure: one experiment a table, cells cached and resumable."""
    from pairfree.bench import harness, overview

    if name is None:
        out.print(overview.overview(out_dir), markup=False)
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


if __name__ == "__main__":
    main()
