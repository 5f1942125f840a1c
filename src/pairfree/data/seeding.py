"""Counted randomness: what is random at a step is a function of (seed, step, purpose).

So resume is exact by construction. This stands in ``data`` rather than ``engine`` because patches and
methods, which the engine may not be imported from, draw from it too.
"""

from __future__ import annotations

import hashlib

import torch


def counted_seed(seed: int, step: int, purpose: str) -> int:
    """A 63-bit seed from (seed, step, purpose); independent of process, platform and call order."""
    told = f"{seed}/{step}/{purpose}".encode()
    digest = hashlib.blake2b(told, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(
    seed: int, step: int, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator for one purpose of one step.

    CPU and CUDA give different, each reproducible, streams.
    """
    made = torch.Generator(device=device)
    made.manual_seed(counted_seed(seed, step, purpose))
    return made
