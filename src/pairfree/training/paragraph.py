"""How a run is written up: the paragraph for a paper, what it cites, and the command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pairfree.data.sets import ImageSet
from pairfree.engine.model import Model
from pairfree.engine.record import EARLIER_KEPT, START_KEPT, Record
from pairfree.evidence.numbers import format_number
from pairfree.evidence.report import Citation
from pairfree.methods.base import Method


def write_paragraph(model: Model, noisy: ImageSet, clean_planes: int) -> str:
    """What was trained, on what and how long, in a paragraph for a paper."""
    record, config, method = model.record, model.record.config, model.method
    opening = open_paragraph(model)
    if method.one_image:
        return (
            f"{opening}; each image was learned by itself for at most {image_budget(config)}, preset "
            f"{record.preset}, seed "
            f"{record.seed}, torch {record.versions['torch']}. Intensities were mapped affinely and mapped "
            "back; files keep their "
            "pixel type and metadata."
        )
    if not method.trains:
        return (
            f"{opening}; nothing was trained, and the noise level was estimated for each image where none "
            "was given. "
            "Files keep their pixel type and metadata."
        )
    network = f"the network {config['net']}" if config.get("net") else "its network"
    patches = (
        f" on {config['patch_px']} x {config['patch_px']} px patches, {config['batch_size']} a step"
        if "patch_px" in config
        else ""
    )
    steps = f"{record.step:,} steps"
    if len(record.plan.stages) > 1:
        steps += " (" + ", ".join(f"{name} {count:,}" for name, count in record.plan.stages) + ")"
    pairs = method.needs.target
    beside = (
        ""
        if pairs
        else f" beside {clean_planes} clean images of other scenes"
        if clean_planes
        else " without clean references"
    )
    kind = "pairs" if pairs else "noisy images"
    images = f"{len(noisy.planes)} {kind} ({format_number(noisy.pixels / 1e6)} megapixels)"
    begun = ", begun from weights trained on drawn scenes" if record.start == "shipped" else ""
    if record.ending == START_KEPT:
        begun += ", which were kept, as training came no nearer to the truth by the estimated error"
    if record.ending == EARLIER_KEPT:
        begun += ", of which the state with the least estimated error was kept"
    mapped = describe_mapping(record)
    return (
        f"{opening}, trained on {images}{beside}: {network} for {steps}{patches}{begun}, "
        f"preset {record.preset}, seed {record.seed}, torch {record.versions['torch']}. {mapped}; "
        "files keep their pixel type and metadata."
    )


def open_paragraph(model: Model) -> str:
    """How a paragraph for a paper begins: with what images were denoised."""
    cited = "; ".join(one.key for one in cite(model.method))
    version = model.record.versions["pairfree"]
    words = f"Images were denoised with pairfree {version} using {model.method.title} [{cited}]"
    change = model.predictor.change
    return words if change is None else f"{words}, corrected by an estimate of its error ({change})"


def describe_mapping(record: Record) -> str:
    """What was done to intensities, for a paper."""
    if not record.normalizer.even:
        return "Intensities were mapped affinely and mapped back"
    return (
        "The noise of each plane was measured and made even (variance stabilisation), and undone by the "
        "exact unbiased inverse"
    )


def state_limit(method: Method) -> str:
    """Where a method's output is not to be trusted."""
    return (
        f"{method.title} assumes: {method.assumption}. Where that does not hold, its output is not to be "
        "trusted."
    )


def cite(method: Method) -> list[Citation]:
    """The works that a method is from, its own first."""
    return [
        _citation(text, method.key if number == 0 else "")
        for number, text in enumerate(method.sources)
    ]


def image_budget(config: Mapping[str, Any]) -> str:
    """What a method that learns each image spends on one."""
    return (
        f"{config['minutes']:g} minutes" if config.get("minutes") else f"{config['steps']:,} steps"
    )


def _citation(text: str, key: str = "") -> Citation:
    """A work with its address; its key in brackets is the method's, or the first author's name."""
    link, shown = "", text
    for mark, prefix in (
        (", doi:", ""),
        (", arXiv:", "https://arxiv.org/abs/"),
        (", https://", "https://"),
    ):
        if mark in text:
            shown, address = text.rsplit(mark, 1)
            link = prefix + address.strip()
            break
    return Citation(key or text.replace(",", " ").split()[0].lower(), shown, link)


def command_line(arguments: Sequence[str]) -> str:
    """The exact command, quoted for a shell."""
    return shlex.join(["pairfree", *arguments])
