"""Networks that are filled: made without numbers, and given their weights one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _NothingDrawn(TorchFunctionMode):
    """First weights of a normal distribution are not drawn.

    On the device ``meta``, which has no numbers, PyTorch imports its compiler for that, which takes a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is nn.init.normal_:
            return args[0] if args else named["tensor"]
        if func is Tensor.normal_:
            return args[0]
        return func(*args, **named)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Inside, networks have shapes and no numbers: one of any width takes no memory."""
    with torch.device("meta"), _NothingDrawn():
        yield


class SelectedTensors(Mapping[str, Tensor]):
    """Those of some tensors whose name begins alike, by the rest of their name; none is asked for before.

    Parameters
    ----------
    tensors
        All, by name.
    prefix
        What the names begin with.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors = tensors
        self._prefix = prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        for name in self._tensors:
            if name.startswith(self._prefix):
                yield name.removeprefix(self._prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def select_tensors(tensors: Mapping[str, Tensor], prefix: str) -> SelectedTensors:
    """Those whose name begins with ``prefix``, by the rest of their name."""
    return SelectedTensors(tensors, prefix)


@torch.no_grad()
def load_network(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a network, one tensor at a time, so that no second copy of its weights is held.

    Parameters
    ----------
    net
        The network.
    weights
        By name as in its ``state_dict``.

    Raises
    ------
    KeyError
        Naming the first weight that is missing or extra.
    RuntimeError
        Naming the first weight of another shape or type.
    """
    own = net.state_dict()
    for name in sorted(own.keys() ^ weights.keys()):
        raise KeyError(f"weight {name!r} is {'missing' if name in own else 'extra'}")
    for name, kept in own.items():
        value = weights[name]
        if value.shape != kept.shape or value.dtype != kept.dtype:
            raise RuntimeError(
                f"weight {name!r} is {value.dtype} {tuple(value.shape)}, expected {kept.dtype} "
                f"{tuple(kept.shape)}"
            )
        kept.copy_(value)
