"""What one image lost or changed against another, in words."""

from __future__ import annotations

import math

from pairfree.files.image import Image, Spacing, Step
from pairfree.files.wide_integers import type_in_file


def differences(a: Image, b: Image) -> list[str]:
    """What ``b`` lost or changed against ``a`` apart from pixel values, one line each; empty when nothing.

    Compares family, pixel type, axes, shape, spacing (within 1e-6 of itself) and unit, channel names and bit
    depth.
    """
    compared = {
        "format family": (a.family, b.family),
        "pixel type": (type_in_file(a).name, type_in_file(b).name),
        "axes": (a.axes, b.axes),
        "shape": (a.shape, b.shape),
        "channel names": (a.channel_names, b.channel_names),
        "bit depth": (a.bit_depth, b.bit_depth),
    }
    lines = []
    for name, (before, after) in compared.items():
        if before != after:
            lines.append(f"{name}: {before} -> {after}")
    return lines + spacing_differences(a, b)


def spacing_differences(a: Image, b: Image) -> list[str]:
    """``differences`` of the spacings alone."""
    lines = []
    axes = set(a.spacing) | set(b.spacing)
    for axis in sorted(axes):
        before, after = a.spacing.get(axis), b.spacing.get(axis)
        lines += _step_differences(axis, before, after)
    return lines


def _step_differences(axis: str, before: Step | None, after: Step | None) -> list[str]:
    changed = f"spacing along {axis}: {_step_text(before)} -> {_step_text(after)}"
    if before is None or after is None:
        return [changed]
    lines = []
    if not math.isclose(before[0], after[0], rel_tol=1e-6):
        lines.append(changed)
    if before[1] != after[1]:
        lines.append(f"unit along {axis}: {before[1]} -> {after[1]}")
    return lines


def spacing_text(spacing: Spacing) -> str:
    """All steps in words; "not stated" where there is none."""
    steps = [f"{axis} {_step_text(step)}" for axis, step in spacing.items()]
    return ", ".join(steps) or "not stated"


def _step_text(step: Step | None) -> str:
    if step is None:
        return "unknown"
    size, unit = step
    return f"{size:.9g} {unit}"
