"""Training by several processes, as torchrun starts them.

Each takes its part of every batch, and gradients are averaged at each update. All have the same weights at
every step, and the same images. The first of them writes the run folder. A batch, and what is drawn with it,
is that of one process alone; what a step draws by itself (masks, made noise) is another draw in every
process.

This stands in ``data`` because patches and methods, which the engine may not be imported from, need it too.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pairfree.errors import ConfigError, PairfreeError

TORCHRUN = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
"""What it leaves in the environment."""
_parted = True


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _parted and _joined() else 0


def count() -> int:
    """How many processes train together; 1 inside ``alone``."""
    return dist.get_world_size() if _parted and _joined() else 1


def first() -> bool:
    """Whether this process writes, logs and decides."""
    return not _joined() or dist.get_rank() == 0


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that torchrun started know each other. One process alone stays as it is.

    Raises
    ------
    ConfigError
        For more processes on a machine than it has GPUs, where it has any.
    """
    started = all(os.environ.get(name) for name in TORCHRUN) and os.environ["WORLD_SIZE"] != "1"
    if not started or not dist.is_available() or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        _take_gpu()
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    say = logging.getLogger("pairfree")
    level = say.level
    if dist.get_rank() > 0:
        say.setLevel(logging.ERROR)
    try:
        yield
    finally:
        say.setLevel(level)
        dist.destroy_process_group()


def _take_gpu() -> None:
    """Each process of a machine has a GPU of its own."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    devices = torch.cuda.device_count()
    if local >= devices:
        raise ConfigError(
            f"{local + 1} processes or more on a machine with {devices} GPUs; start one for each "
            f"(torchrun --nproc-per-node {devices})"
        )
    torch.cuda.set_device(local)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, each process does the whole by itself, for what all compute alike."""
    global _parted
    kept, _parted = _parted, False
    try:
        yield
    finally:
        _parted = kept


def part_of(batch_size: int) -> int:
    """Patches that this process takes of a batch.

    Raises
    ------
    ConfigError
        Where they cannot be shared out evenly.
    """
    if batch_size % count():
        raise ConfigError(
            f"batch_size = {batch_size} cannot be shared by {count()} processes; give a multiple (`settings` "
            "batch_size=...)"
        )
    return batch_size // count()


def own_share(patches: int) -> int:
    """How many of so many patches of a batch are this process's, at least one."""
    return max(1, patches // count())


def average(tensors: Iterable[Tensor]) -> None:
    """In place, the mean over the processes: one message for all of them."""
    if count() == 1:
        return
    listed = list(tensors)
    flat = torch.cat([one.reshape(-1).float() for one in listed])
    _talk(dist.all_reduce, flat)
    flat /= count()
    begin = 0
    for one in listed:
        end = begin + one.numel()
        one.copy_(flat[begin:end].view_as(one))
        begin = end


def any_of(*wishes: bool) -> tuple[bool, ...]:
    """Which of them are true in at least one process."""
    if count() == 1:
        return wishes
    flags = torch.tensor(wishes, dtype=torch.uint8)
    _talk(dist.all_reduce, flags, op=dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in flags)


def shared(value: Any) -> Any:
    """What the first process has, as JSON makes it."""
    if count() == 1:
        return value
    data = json.dumps(value if first() else None).encode()
    length = torch.tensor([len(data)])
    _talk(dist.broadcast, length, 0)
    if first():
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    else:
        text = torch.empty(int(length), dtype=torch.uint8)
    _talk(dist.broadcast, text, 0)
    return json.loads(bytes(text.tolist()))


def begin_alike(networks: Iterable[nn.Module]) -> None:
    """Weights and buffers become those of the first process.

    Networks that a user made are drawn anew in each.
    """
    if count() > 1:
        for net in networks:
            for tensor in (*net.parameters(), *net.buffers()):
                _talk(dist.broadcast, tensor.detach(), 0)


def agree(networks: Iterable[nn.Module]) -> None:
    """Buffers become those of the first process.

    Raises
    ------
    PairfreeError
        Where weights differ: a step changed them by other means than ``update``.
    """
    if count() == 1:
        return
    for net in networks:
        for buffer in net.buffers():
            _talk(dist.broadcast, buffer, 0)
        weights = [p.detach().double().sum() for p in net.parameters()]
        if not weights:
            continue
        least = torch.stack(weights)
        most = least.clone()
        _talk(dist.all_reduce, least, op=dist.ReduceOp.MIN)
        _talk(dist.all_reduce, most, op=dist.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise PairfreeError(
                "the processes' weights differ; change weights through pairfree.methods.base.update only, or "
                "train in one"
            )


def _talk(operation: Any, *arguments: Any, **options: Any) -> None:
    """A collective operation; the end of another process is one line here, and the whole story there."""
    try:
        operation(*arguments, **options)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        cause = str(error).splitlines()[0]
        raise PairfreeError(
            f"the processes cannot talk to each other; has another one ended? ({cause[:120]})"
        ) from None
