"""What every method is: it owns its networks, its optimisers and the order of its updates.

The trainer knows none of them.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from pairfree.data import processes
from pairfree.data.patches import Batch, TrainingData
from pairfree.data.seeding import generator
from pairfree.errors import ConfigError, DivergedError
from pairfree.nets.loading import load_network, select_tensors

Part = TypeVar("Part")


class Needs(enum.Enum):
    """What a method must be given beside its noisy files."""

    NOISY = "noisy files only"
    CLEAN = "an unpaired clean set of other scenes (`clean`)"
    CLEAN_AND_NOISE = (
        "an unpaired clean set of other scenes (`clean`) and images of the noise alone "
        "(`noise_images`)"
    )
    TARGET_CLEAN = "the clean partner of each noisy file (`target`)"
    TARGET_NOISY = "a second, independent noisy copy of each file (`target`)"
    ESTIMATE_AND_NOISE = (
        "a rough estimate of each file (`target`) and images of the noise alone (`noise_images`)"
    )

    @property
    def target(self) -> bool:
        """Whether each noisy file has a partner."""
        return self in (Needs.TARGET_CLEAN, Needs.TARGET_NOISY, Needs.ESTIMATE_AND_NOISE)

    @property
    def clean(self) -> bool:
        """Whether there is an unpaired clean set."""
        return self in (Needs.CLEAN, Needs.CLEAN_AND_NOISE)

    @property
    def noise(self) -> bool:
        """Whether there are images of the noise alone."""
        return self in (Needs.CLEAN_AND_NOISE, Needs.ESTIMATE_AND_NOISE)


@dataclass(frozen=True)
class Stage:
    """A named part of a training run."""

    name: str
    share: float
    """Part of the budget it gets, in 0..1: of the time where the budget is minutes, of the steps where it is
    steps."""


@dataclass(frozen=True)
class At:
    """Where a step stands.

    Everything random in a step comes from ``rng``, everything scheduled from ``progress``.
    """

    seed: int
    """Of the run."""
    step: int
    """Counted over the whole run, from 0."""
    stage: str
    """Name of the stage."""
    stage_step: int
    """Counted within the stage, from 0."""
    stage_steps: int
    """Length of the stage."""

    @property
    def progress(self) -> float:
        """Position in the stage, 0 at its first step, below 1 at its last."""
        return self.stage_step / max(1, self.stage_steps)

    def rng(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for one purpose of this step; another one in each of several processes."""
        rank = processes.rank()
        if rank:
            purpose = f"{purpose} of {rank}"
        return generator(self.seed, self.step, purpose, device)


class Config(Protocol):
    """Settings: any dataclass. Those of the methods here are frozen, and check their values."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Method(ABC):
    """A way to train a denoiser.

    A subclass sets ``key``, ``title``, ``needs``, ``citation`` and ``assumption``, builds its networks in
    ``__init__`` and its optimisers in ``make_optimizers``, and implements ``step`` and ``denoise``.
    ``networks`` and ``optimizers`` are all the state it has: what is not in them is not saved. Of the
    optimisers their moments are saved, not their rates: set those in every step, from ``at.progress``.
    """

    key: ClassVar[str]
    """Its name on the command line, in files and in ``METHODS``."""
    title: ClassVar[str]
    """Its name for a reader."""
    needs: ClassVar[Needs]
    """What it must be given beside its noisy files."""
    citation: ClassVar[str]
    """Its paper."""
    assumption: ClassVar[str]
    """What must be true of the noise; where it is not, the method does not work."""
    config_type: ClassVar[type[Config]]
    """The dataclass of its settings. A method of your own needs none."""

    trains: ClassVar[bool] = True
    """False for a method without steps; its runs only record its settings."""
    any_channels: ClassVar[bool] = False
    """True for a method that denoises each channel by itself, so that a model takes any number of them."""
    one_image: ClassVar[bool] = False
    """True for a method that learns each image as it denoises it, which takes minutes; a budget is one for
    each image."""
    revision: ClassVar[int] = 1
    """Raised by a change of the code that gives other numbers with the same settings: ``pairfree bench`` then
    measures its cells anew."""

    networks: dict[str, nn.Module]
    """All that it trains, and all else with weights or buffers, by name."""
    config: Config | None = None
    """Its settings, of ``config_type``; a subclass declares them as that type. None: it has none."""
    patch_px: int = 64
    """Side of the square training patches, pixels."""
    batch_size: int = 16
    """Patches a step."""
    started: bool = False
    """Whether its network began from the shipped start."""
    start_kind: str = ""
    """Which start that was; empty without one."""
    precision: str = "float32"
    """Number format of its convolutions: "float32" or "bfloat16"."""

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers of ``networks``, made when they are first asked for.

        A model that is loaded to denoise has none, and PyTorch's compiler is not imported for it.
        """
        return self.make_optimizers()

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers of ``networks``, by name; none of a method that does not train."""
        return {}

    def stages(self) -> tuple[Stage, ...]:
        """Named parts of a run, in their order; their shares add up to 1."""
        return (Stage("train", 1.0),)

    @property
    def sources(self) -> tuple[str, ...]:
        """All that a user of this method, as it is configured, should cite; the method's own paper first."""
        return (self.citation,)

    def prepare(self, data: TrainingData, seed: int) -> None:  # noqa: B027 - a hook, empty by design
        """Compute once from the data what the steps need.

        Must be a function of (data, seed) alone, since a resumed run calls it again.
        """

    def finish(self, data: TrainingData, seed: int) -> None:  # noqa: B027 - a hook, empty by design
        """After the last step, before the model is saved for good.

        Like ``prepare`` a function of (data, seed) and of the weights.
        """

    def prepared(self, value: Part | None) -> Part:
        """``value``, which ``prepare`` makes. ConfigError before it did."""
        if value is None:
            raise ConfigError(f"{self.key}: prepare must come before the first step")
        return value

    @abstractmethod
    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Perform the updates of one step; returns scalar tensors worth logging, detached."""

    @abstractmethod
    def denoise(self, x: Tensor) -> Tensor:
        """(B, C, H, W) network units -> same shape; H and W multiples of the denoiser's stride."""

    def fit_to(self, data: TrainingData, seed: int, may_start: bool) -> Method:
        """The method for these data, where they decide its networks: this one, or another of its kind.

        Called once, before anything is trained; a resumed run is of the kind that was found then. With
        ``may_start`` it may begin from the shipped start.
        """
        return self

    def choose_start(self, data: TrainingData) -> str:
        """Which of the shipped starts its network begins from, "white" or "correlated", as its noise is."""
        return "white"

    def denoise_plane(self, x: Tensor, correlated: bool) -> Tensor:
        """``denoise``, for a part of a plane of which is known whether neighbouring pixels share noise.

        That is measured where noise is made even; else ``correlated`` is False.
        """
        return self.denoise(x)

    def noise_samples(self) -> tuple[Tensor, Tensor] | None:
        """Noise found in the images and noise made.

        Patches (N, C, P, P) in network units; None for a method that imitates none, or that was loaded to be
        applied only.
        """
        return None

    @property
    def disagrees(self) -> bool:
        """True for a method with two denoisers of different make.

        Their difference says where neither is to be trusted.
        """
        return False

    def no_disagreement(self) -> ConfigError:
        """What to raise where a method with one denoiser is asked for its disagreement."""
        return ConfigError(
            f"method {self.key} has one denoiser, so there is no disagreement to show; iscl has two"
        )

    def disagreement(self, x: Tensor) -> Tensor:
        """|one denoiser - the other|, (B, C, H, W) network units -> same shape.

        ConfigError for a method with one denoiser.
        """
        raise self.no_disagreement()

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network (or composition) that ``denoise`` applies.

        Its receptive field sets the halo of prediction.
        """

    @property
    def device(self) -> torch.device:
        """Where the denoiser lies."""
        return next(iter(self.denoiser.parameters())).device

    # -- state, by name, for checkpoints ---------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """All weights and buffers of the networks, by name."""
        weights: dict[str, Tensor] = {}
        for name, net in self.networks.items():
            for key, value in net.state_dict().items():
                weights[f"net/{name}/{key}"] = value
        return weights

    def tensors(self) -> dict[str, Tensor]:
        """All weights and optimiser moments by name; the numbers of a checkpoint."""
        tensors = self.weights()
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    if value is not None:  # a momentum of a rate of 0
                        tensors[f"opt/{name}/{index}/{key}"] = torch.as_tensor(value)
        return tensors

    def load_tensors(self, tensors: Mapping[str, Tensor], optimizers: bool = True) -> None:
        """Inverse of ``tensors``.

        Strict: a missing, extra or misshapen weight raises KeyError or RuntimeError naming it. Of ``tensors``
        one at a time is asked for.
        """
        for name, net in self.networks.items():
            load_network(net, select_tensors(tensors, f"net/{name}/"))
        if not optimizers:
            return
        for name, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in select_tensors(tensors, f"opt/{name}/").items():
                index, field = key.split("/", 1)
                moments.setdefault(int(index), {})[field] = value.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def update(
    optimizer: torch.optim.Optimizer, loss: Tensor, at: At, network: str, max_norm: float = math.inf
) -> None:
    """One optimiser step that refuses a non-finite loss or gradient before the weights change.

    Of several processes it is taken on the mean of theirs.

    Parameters
    ----------
    optimizer
        Of the network.
    loss
        Scalar; its graph is used up.
    at
        Where the step stands.
    network
        Its name in messages.
    max_norm
        The joint gradient norm is scaled down to this.

    Raises
    ------
    DivergedError
        Naming step and network; weights and moments are then those of the step before.
    """
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    parameters: list[nn.Parameter] = []
    gradients: list[Tensor] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameters.append(parameter)
                gradients.append(parameter.grad)
    value = loss.detach().clone()
    processes.average([*gradients, value])
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    if not bool(torch.isfinite(norm + value)):
        what = "gradient" if bool(torch.isfinite(value)) else "loss"
        raise DivergedError(
            f"non-finite {what} at step {at.step} ({at.stage}) in network {network!r}; weights left unchanged"
        )
    optimizer.step()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def warm_cosine(progress: float, warm: float = 0.03) -> float:
    """Factor of the learning rate: a rise, then half a cosine.

    Linear from 0 to 1 over the first ``warm`` of a stage, then down to 0.
    """
    if progress < warm:
        return (progress + 1e-3) / (warm + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warm) / (1.0 - warm)))


def flat_then_linear(progress: float) -> float:
    """The papers' schedule: constant for the first half, then linear to 0 (IDDP: 1 M + 1 M steps)."""
    return min(1.0, 2.0 * (1.0 - progress))


def halvings(progress: float) -> float:
    """GAN2GAN's schedule: 1, then a half in the second and a quarter in the last third of a stage."""
    return 0.5 ** min(2, int(3.0 * progress))


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """Move ``slow`` towards ``fast``: an exponential average of weights; buffers are copied."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), rate)
    for mine, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
        mine.copy_(theirs)


def require(value: Part | None, what: str) -> Part:
    """``value``; ConfigError where there is none."""
    if value is None:
        raise ConfigError(f"this method needs {what}")
    return value


def check_positive(owner: str, values: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that are not finite and positive.

    Parameters
    ----------
    owner
        Whose settings they are, for the message.
    values
        Name and value of each.

    Raises
    ------
    ConfigError
        With all that are not.
    """
    bad = []
    for name, value in values:
        is_number = isinstance(value, int | float)
        if not is_number or not 0 < value <= sys.float_info.max:
            bad.append(f"{name} = {value}")
    if bad:
        raise ConfigError(f"{owner}: must be positive: " + ", ".join(bad))
