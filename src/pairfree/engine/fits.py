"""Whether the tensors of a checkpoint are those that a method has: names, types and sizes, no numbers.

Nothing is read for that but what their file declares, and nothing is made but shapes.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pairfree.errors import CheckpointError
from pairfree.nets.tensor_file import TensorFile

OWN = "a network of your own is passed as net="
OTHER = "use an earlier checkpoint, or start anew"
KINDS = ("net/", "opt/")
"""How names of tensors begin: weights and buffers, and what optimisers remember."""


Kept = dict[str, Tensor]
"""What an optimiser keeps of a parameter from step to step, by key."""


class Shaped(Protocol):
    """A tensor, or what a file declares of one."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""


def check_weights(
    stored: Mapping[str, Shaped], expected: Mapping[str, Shaped], where: Path
) -> None:
    """Refuse weights that are not those of a method's networks.

    Parameters
    ----------
    stored
        Tensors by name, as ``Method.tensors`` gives them.
    expected
        Likewise, as ``Method.weights`` gives them.
    where
        The file that is named.

    Raises
    ------
    CheckpointError
        Naming the first tensor of ``stored`` that is neither a weight nor of an optimiser, and the first
        weight that is missing, extra, or of another shape or type than in ``expected``.
    """
    for name in stored:
        if not name.startswith(KINDS):
            raise CheckpointError(
                f"{where}: tensor {name!r:.80} belongs to no network and no optimiser; {OTHER}"
            )
    theirs = {name for name in stored if name.startswith("net/")}
    for name in sorted(expected.keys() | theirs):
        if name not in theirs:
            raise CheckpointError(
                f"{where}: tensor {name!r} is missing, expected {_words_of(expected[name])}; {OTHER}; {OWN}"
            )
        if name not in expected:
            raise CheckpointError(
                f"{where}: tensor {name!r:.80} does not belong to this network; {OTHER}; {OWN}"
            )
        if not _alike(stored[name], expected[name]):
            raise CheckpointError(
                f"{where}: tensor {name!r} is {_words_of(stored[name])}, expected "
                f"{_words_of(expected[name])}; it belongs to a network of other settings; {OTHER}"
            )


def count_tensors(names: Iterable[str]) -> dict[str, int]:
    """How many tensors belong to each network and each optimiser: by ``net/NAME`` and ``opt/NAME``."""
    owners = ["/".join(name.split("/")[:2]) for name in names]
    return dict(sorted(Counter(owners).items()))


def check_counts(stored: Iterable[str], expected: Mapping[str, int], where: Path) -> None:
    """CheckpointError where a network or an optimiser has more or fewer tensors than were written of it."""
    found = count_tensors(stored)
    for owner in sorted(found.keys() | expected.keys()):
        have, want = found.get(owner, 0), expected.get(owner, 0)
        if have != want:
            raise CheckpointError(
                f"{where}: has {have} tensors '{owner:.80}/...', expected {want}; {OTHER}"
            )


def check_whole_numbers(stored: TensorFile) -> None:
    """CheckpointError naming the first weight that counts something, and is negative."""
    for name, declared in stored.declared.items():
        is_number = declared.dtype.is_floating_point or declared.dtype.is_complex
        if is_number or not name.startswith("net/"):
            continue
        value = stored[name]
        if value.numel() and int(value.min()) < 0:
            raise CheckpointError(
                f"{stored.path}: tensor {name!r} holds {int(value.min())}, expected 0 or more; {OTHER}"
            )


def check_moments(
    stored: Mapping[str, Shaped],
    optimizers: Mapping[str, torch.optim.Optimizer],
    where: Path,
    all_used: bool,
) -> None:
    """Refuse what optimisers are to remember and could not have written.

    Parameters
    ----------
    stored
        Tensors by name, as ``Method.tensors`` gives them.
    optimizers
        By name.
    where
        The file that is named.
    all_used
        Whether every optimiser has taken a step, so that one that remembers nothing has lost it.

    Raises
    ------
    CheckpointError
        Naming the first tensor that is missing, extra, or of another shape or type.
    """
    owned: dict[str, list[str]] = {name: [] for name in optimizers}
    for name in stored:
        if not name.startswith("opt/"):
            continue
        owner = name.split("/")[1]
        if owner not in owned:
            raise CheckpointError(
                f"{where}: tensor {name!r:.80} is of an optimiser that there is not, expected one of "
                f"{', '.join(map(repr, optimizers)) or 'none'}; {OTHER}"
            )
        owned[owner].append(name)
    for owner, names in owned.items():
        if all_used and not names:
            raise CheckpointError(
                f"{where}: no tensor of optimiser {owner!r}, which has taken steps, expected "
                f"'opt/{owner}/0/...'; {OTHER}"
            )
        moments = {name.removeprefix(f"opt/{owner}/"): stored[name] for name in names}
        try:
            _check_optimizer(moments, optimizers[owner])
        except ValueError as error:
            raise CheckpointError(f"{where}: tensor 'opt/{owner}/{error}; {OTHER}") from None


def _check_optimizer(moments: Mapping[str, Shaped], optimizer: torch.optim.Optimizer) -> None:
    """ValueError naming the first tensor, by index and key, that is not what a step leaves."""
    groups, steps = _take_step(optimizer)
    indices = {str(index): index for index in range(len(steps))}
    found: dict[int, dict[str, Shaped]] = defaultdict(dict)
    for name, value in moments.items():
        place, _, key = name.partition("/")
        if place not in indices:
            raise ValueError(f"{name:.80}' is of no parameter, expected 0 to {len(steps) - 1}")
        found[indices[place]][key] = value
    for members in groups:
        held = [index for index in members if index in found]
        keys = [steps[index].keys() for index in members]
        if not held or not any(keys):
            continue
        shared = set.intersection(*map(set, keys))
        kept_once = set.union(*map(set, keys)) - shared
        for index in held:
            first = kept_once if index == held[0] else set()
            _check_parameter(
                index, found[index], _expected_of(members, steps, index), shared | first
            )


def _expected_of(members: Sequence[int], steps: list[Kept], index: int) -> Kept:
    """What may be kept of a parameter: what a step leaves of it, and what it leaves of one of its group."""
    expected: Kept = {}
    for one in members:
        expected = {**steps[one], **expected}
    return {**expected, **steps[index]}


def _check_parameter(
    index: int, found: Mapping[str, Shaped], expected: Kept, needed: set[str]
) -> None:
    """ValueError naming the first tensor of a parameter that is missing, extra, or of another kind."""
    for key in sorted(found.keys() | needed):
        name = f"{index}/{key:.60}'"
        if key not in found:
            raise ValueError(f"{name} is missing, expected {_words_of(expected[key])}")
        if key not in expected:
            raise ValueError(f"{name} is extra, expected of each parameter: {', '.join(expected)}")
        if not _alike(found[key], expected[key]):
            raise ValueError(
                f"{name} is {_words_of(found[key])}, expected {_words_of(expected[key])}"
            )


def _take_step(optimizer: torch.optim.Optimizer) -> tuple[list[list[int]], list[Kept]]:
    """Which parameters its groups have, by index, and what a step leaves of each.

    The step is taken by a twin whose parameters and gradients have shapes and no numbers. Nothing is known
    of an optimiser that cannot do that.
    """
    groups: list[list[int]] = []
    parameters: list[Tensor] = []
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = []
    for group in optimizer.param_groups:
        shapes = [_shape_of(parameter) for parameter in group["params"]]
        twin.param_groups.append({**group, "params": shapes})
        groups.append([len(parameters) + place for place in range(len(shapes))])
        parameters += shapes
    try:
        twin.step()
    except Exception:  # an optimiser of the caller's own may do anything
        return [], [{} for _ in parameters]
    steps = []
    for parameter in parameters:
        kept = twin.state.get(parameter, {})
        values = {key: value for key, value in kept.items() if value is not None}
        steps.append({key: torch.as_tensor(value) for key, value in values.items()})
    return groups, steps


def _shape_of(parameter: Tensor) -> Tensor:
    """A parameter of that shape and type without numbers, and its gradient."""
    shape = torch.nn.Parameter(torch.empty_like(parameter, device="meta"))
    shape.grad = torch.empty_like(shape)
    return shape


def _alike(one: Shaped, other: Shaped) -> bool:
    return one.dtype == other.dtype and tuple(one.shape) == tuple(other.shape)


def _words_of(tensor: Shaped) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
