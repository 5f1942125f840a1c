"""What ``pairfree info`` tells: a run, a checkpoint or an image file as (name, value) lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pairfree.engine import checkpoint
from pairfree.engine.record import EARLIER_KEPT, EARLY, START_KEPT
from pairfree.engine.run import RunFolder
from pairfree.errors import InputError
from pairfree.files.formats.table import is_supported
from pairfree.files.image import Image
from pairfree.files.listing import is_folder
from pairfree.files.opening import count_scenes, open_image
from pairfree.files.wide_integers import type_in_file
from pairfree.methods.shipped import Shipped
from pairfree.nets.start import CHANNELS, KINDS, SCENES, has_start, read_facts
from pairfree.training.shipped import is_shipped

Lines = list[tuple[str, str]]
"""Names and values."""


def info(path: str | Path) -> Lines:
    """What a run, a checkpoint or an image file holds.

    Parameters
    ----------
    path
        A run folder, a checkpoint or an image file; or "shipped", the network that comes with pairfree.

    Returns
    -------
    list of (str, str)
        Names and values, in the order in which ``pairfree info`` prints them.

    Raises
    ------
    InputError
        When it is none of these.
    """
    if is_shipped(path):
        return _describe_shipped()
    path = Path(path)
    if is_folder(path) and not is_supported(path):
        return _describe_run(path)
    if path.suffix in (".json", ".safetensors") and path.name.startswith("step-"):
        return _describe_checkpoint(checkpoint.load(path.with_suffix(".json")))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return _describe_image(path)


WORDS_OF_ENDING = {
    EARLY: "as nothing was gained any more",
    START_KEPT: "with the network that it began from, which is nearer to the truth",
    EARLIER_KEPT: "with an earlier state, which is nearer to the truth",
}
"""How a run ended that did not end as planned."""


def _describe_run(path: Path) -> Lines:
    run = RunFolder(path)
    if not run.exists and checkpoint.listing(run.checkpoints):  # the model of a stage
        last, _ = checkpoint.load_latest(run.checkpoints)
        return [("stage of a run", str(path)), *_describe_checkpoint(last)]
    config, damage = _config_of(run)
    last, problems = checkpoint.load_latest(run.checkpoints)
    problems += damage
    total = last.record.plan.total
    state = "finished"
    if last.record.ending:
        state = (
            f"finished at step {last.step:,} of {total:,}, {WORDS_OF_ENDING[last.record.ending]}"
        )
    elif last.step < total:
        state = f"stopped at step {last.step:,} of {total:,}: go on with `resume`"
    return [
        ("run", str(path)),
        ("file system", _file_system(path)),
        ("command", str(config.get("command", ""))),
        *_describe_checkpoint(last),
        ("state", state),
        *(("damaged", line) for line in problems),
        *((name, str(value)) for name, value in run.read_environment().items()),
    ]


def _config_of(run: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """What config.toml says, and what is wrong with it."""
    try:
        return run.read_config(), []
    except InputError as error:
        if not run.exists:
            raise
        return {}, [str(error)]


def _describe_shipped() -> Lines:
    """What was trained, on what."""
    lines = [
        ("method", f"{Shipped.key} ({Shipped.title}); needs no run"),
        ("intensity map", "the noise of each plane is measured and made even"),
    ]
    for channels in CHANNELS:
        for kind in KINDS:
            if not has_start(kind, channels):
                continue
            facts = read_facts(kind, channels)
            colour = "grey" if channels == 1 else "colour"
            trained = f"{facts['steps']:,} steps on {facts['scenes']:,} {colour} scenes that a program drew"
            name = f"{kind}, {colour}"
            lines.append((name, f"{facts['network']}, {trained}, seed {facts['seed']}"))
    return [*lines, ("scenes after", SCENES)]


def _describe_checkpoint(stored: checkpoint.Checkpoint) -> Lines:
    record = stored.record
    lines = [
        ("method", f"{record.method} (preset {record.preset})"),
        ("step", f"{stored.step:,}"),
        ("stages", ", ".join(f"{name} {count:,}" for name, count in record.plan.stages)),
        ("channels", str(record.channels)),
    ]
    if record.slices_around:
        lines.append(("slices around each", str(record.slices_around)))
    return [
        *lines,
        ("weights", f"{_count_weights(stored):,}"),
        ("intensity map", record.normalizer.describe()),
        ("seed", str(record.seed)),
        ("settings", ", ".join(f"{key}={value}" for key, value in record.config.items())),
    ]


def _count_weights(stored: checkpoint.Checkpoint) -> int:
    """How many denoise; counted in a checkpoint that does not say."""
    if stored.record.weights:
        return stored.record.weights
    prefix = f"net/{stored.record.denoiser}/"
    declared = stored.tensors.declared
    return sum(tensor.count for name, tensor in declared.items() if name.startswith(prefix))


def _describe_image(path: Path) -> Lines:
    scenes = count_scenes(path)
    image = open_image(path, scene=0 if scenes > 1 else None)
    spacing = ", ".join(f"{axis} {step:g} {unit}" for axis, (step, unit) in image.spacing.items())
    several: Lines = []
    if scenes > 1:
        several = [("images", f"{scenes}; this is the first, choose another with `scene`")]
    return [
        ("file", str(path)),
        ("format", image.family),
        ("shape", f"{' x '.join(map(str, image.shape))} ({image.axes})"),
        ("pixel type", type_in_file(image).name),
        ("spacing", spacing or "not stated"),
        ("channel names", ", ".join(image.channel_names) or "none"),
        *several,
        ("intensity", _describe_intensity(image)),
        *(("warning", line) for line in image.metadata.get("warnings", [])),
    ]


def _describe_intensity(image: Image) -> str:
    values = image.sample() if image.stored else image.pixels
    note = " (of a sample)" if image.stored else ""
    with np.errstate(over="ignore", invalid="ignore"):  # sums of the largest numbers
        mean = values.mean(dtype=np.float64)
    return f"{values.min()} .. {values.max()}, mean {mean:.4g}{note}"


def _file_system(path: Path) -> str:
    """Kind of file system: locks and renames are weaker on network ones."""
    real = path.resolve()
    mounts = [
        part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part.mountpoint)
    ]
    if not mounts:
        return "unknown"
    return str(max(mounts, key=lambda part: len(part.mountpoint)).fstype)
