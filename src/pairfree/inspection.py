"""What ``pairfree info`` tells: a run, a checkpoint or an image file as (name, value) lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil

from pairfree.engine import checkpoint
from pairfree.engine.run import RunFolder
from pairfree.errors import InputError
from pairfree.files.formats.table import is_supported, open_image
from pairfree.files.image import Image
from pairfree.files.listing import is_folder


def info(path: str | Path) -> list[tuple[str, str]]:
    """What a run, a checkpoint or an image file holds.

    Parameters
    ----------
    path
        A run folder, a checkpoint or an image file.

    Returns
    -------
    list of (str, str)
        Names and values, in the order in which ``pairfree info`` prints them.

    Raises
    ------
    InputError
        When it is none of the three.
    """
    path = Path(path)
    if is_folder(path) and not is_supported(path):
        return _run(path)
    if path.suffix in (".json", ".safetensors") and path.name.startswith("step-"):
        return _checkpoint(checkpoint.load(path.with_suffix(".json")))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return _image(path)


def _run(path: Path) -> list[tuple[str, str]]:
    run = RunFolder(path)
    if not run.exists and checkpoint.listing(run.checkpoints):  # the model of a stage
        return [("stage of a run", str(path)), *_checkpoint(checkpoint.load_latest(run.checkpoints)[0])]
    config = run.read_config()
    found = [
        ("run", str(path)),
        ("file system", _file_system(path)),
        ("command", str(config.get("command", ""))),
    ]
    last, problems = checkpoint.load_latest(run.checkpoints)
    found += _checkpoint(last)
    total = last.record.plan.total
    found.append(
        (
            "state",
            "finished"
            if last.step >= total
            else f"stopped at step {last.step:,} of {total:,}: go on with --resume",
        )
    )
    found += [("damaged", line) for line in problems]
    found += [(key, str(value)) for key, value in run.read_environment().items()]
    return found


def _checkpoint(found: checkpoint.Checkpoint) -> list[tuple[str, str]]:
    record = found.record
    lines = [
        ("method", f"{record.method} (preset {record.preset})"),
        ("step", f"{found.step:,}"),
        ("stages", ", ".join(f"{name} {count:,}" for name, count in record.plan.stages)),
        ("channels", str(record.channels)),
    ]
    if record.slices_around:
        lines.append(("slices around each", str(record.slices_around)))
    normalizer = record.normalizer
    return [
        *lines,
        ("weights", f"{_weights(found):,}"),
        ("intensity map", f"(intensity - {normalizer.offset:g}) / {normalizer.scale:g}"),
        ("seed", str(record.seed)),
        ("settings", ", ".join(f"{key}={value}" for key, value in record.config.items())),
    ]


def _weights(found: checkpoint.Checkpoint) -> int:
    """How many denoise; counted in a checkpoint that does not say."""
    if found.record.weights:
        return found.record.weights
    prefix = f"net/{found.record.denoiser}/"
    return sum(tensor.numel() for name, tensor in found.tensors.items() if name.startswith(prefix))


def _image(path: Path) -> list[tuple[str, str]]:
    image = open_image(path)
    return [
        ("file", str(path)),
        ("format", image.family),
        ("shape", f"{' x '.join(map(str, image.shape))} ({image.axes})"),
        ("pixel type", image.dtype.name),
        (
            "spacing",
            ", ".join(f"{axis} {step:g} {unit}" for axis, (step, unit) in image.spacing.items())
            or "not stated",
        ),
        ("channel names", ", ".join(image.channel_names) or "none"),
        ("intensity", _intensity(image)),
        *[("warning", line) for line in image.metadata.get("warnings", [])],
    ]


def _intensity(image: Image) -> str:
    values = image.sample() if image.stored else image.pixels
    return f"{values.min()} .. {values.max()}, mean {values.mean(dtype=np.float64):.4g}{' (of a sample)' if image.stored else ''}"


def _file_system(path: Path) -> str:
    """Kind of file system: locks and renames are weaker on network ones."""
    real = path.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
