"""Memory: what a network takes, and what happens when it runs out.

The user gets one line with a remedy then, instead of a traceback.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError
from pairfree.files.messages import size_text
from pairfree.methods.base import Method
from pairfree.nets.traits import total_stride

PROBE_PX = 64
"""Side of the image that a network's memory is measured on, rounded up to its stride."""
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad allocation",
    "status_alloc_failed",
)


def is_shortage(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on the device or beside it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


class ShortageError(ConfigError):
    """Memory has run out.

    Parameters
    ----------
    remedy
        What did not fit, and what to do.
    fitting_bytes
        The bound for a network's memory that ``remedy`` asks for, where it asks for one.
    """

    def __init__(self, remedy: str, fitting_bytes: int | None = None) -> None:
        super().__init__(f"out of memory: {remedy}")
        self.remedy, self.fitting_bytes = remedy, fitting_bytes

    @staticmethod
    def ask(n_bytes: int) -> str:
        """What asks for a bound."""
        return f"give a `max_bytes` of {n_bytes}"

    def asking(self, n_bytes: int) -> ShortageError:
        """The same that asks for another bound: one for the whole process."""
        if self.fitting_bytes is None:
            return self
        before = self.ask(self.fitting_bytes)
        return ShortageError(self.remedy.replace(before, self.ask(n_bytes)), n_bytes)


@dataclass(frozen=True)
class WholeImageMemory:
    """What an image takes that is worked on whole; zeros where that is unknown."""

    fixed_bytes: float
    """Beside the image's size."""
    bytes_per_px: float
    """For each of its pixels."""

    def needed(self, height: int, width: int) -> float:
        """Bytes for an image of that size."""
        return self.fixed_bytes + self.bytes_per_px * height * width

    def check(self, height: int, width: int, max_bytes: float) -> None:
        """ConfigError for an image that does not fit into ``max_bytes``, with what crop would."""
        needed = self.needed(height, width)
        if not self.bytes_per_px or needed <= max_bytes:
            return
        left = max(0.0, max_bytes - self.fixed_bytes)
        side = int((left / self.bytes_per_px) ** 0.5)
        crop = f"crop it to {side} x {side} px, or " if side else ""
        raise ConfigError(
            f"denoising an image of {height} x {width} px whole needs {size_text(int(needed))}, "
            f"more than the {size_text(int(max_bytes))} allowed: {crop}raise `max_bytes`"
        )


@contextmanager
def explain_shortage(remedy: str) -> Iterator[None]:
    """ConfigError with ``remedy`` where memory runs out inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise ShortageError(remedy) from None


def activation_bytes_per_px(method: Method, channels: int) -> float:
    """Upper estimate of the working memory of a forward pass: all layer outputs of a small tile together.

    Parameters
    ----------
    method
        Whose ``denoise`` is measured.
    channels
        Of its input.

    Returns
    -------
    float
        Bytes per input pixel.

    Notes
    -----
    Layers free their inputs as they go, so the true peak is lower; the convolution's own workspace makes up
    part of the difference. A layer that is used again, in another pass, counts once.
    """
    largest: dict[nn.Module, int] = {}

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            largest[module] = max(largest.get(module, 0), output.numel() * output.element_size())

    handles = [module.register_forward_hook(count) for module in method.denoiser.modules()]
    stride = total_stride(method.denoiser)
    side = math.ceil(PROBE_PX / stride) * stride
    try:
        with torch.inference_mode():
            method.denoise(torch.zeros(1, channels, side, side, device=method.device))
    finally:
        for handle in handles:
            handle.remove()
    input_bytes = 16 * channels * side**2
    return (sum(largest.values()) + input_bytes) / side**2
