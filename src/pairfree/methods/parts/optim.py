"""Muon for convolution kernels, Adam for the rest.

About twice as many useful steps in a short budget (docs/design.md, measured).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MUON = (
    "Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, "
    "https://kellerjordan.github.io/posts/muon"
)
MIN_CHANNELS = 16
"""Kernels with fewer channels on either side are Adam's."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b and c of ``orthogonalize``."""
NEWTON_SCHULZ_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    r"""Find the nearest semi-orthogonal matrices, roughly: singular values are pulled to about 0.7..1.2.

    X <- a X + (b X X^T + c (X X^T)^2) X, five times, from X / |X|_F.

    Parameters
    ----------
    matrices
        (N, R, C).

    Returns
    -------
    Tensor
        (N, R, C).

    References
    ----------
    Jordan et al., Muon: an optimizer for hidden layers, 2024; quintic Newton-Schulz with the coefficients
    given there.
    """
    a, b, c = NEWTON_SCHULZ
    _, rows, columns = matrices.shape
    tall = rows > columns
    x = matrices.transpose(1, 2) if tall else matrices
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / (norm + 1e-12)
    # Each iteration multiplies X by a polynomial of its Gram matrix, so only R x R products are needed until
    # the end: 2-3 times cheaper.
    gram = x @ x.transpose(1, 2)
    eye = torch.eye(min(rows, columns), dtype=gram.dtype, device=gram.device)
    product = eye
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = gram @ gram
        factor = a * eye + b * gram + c * square
        product = factor @ product
        gram = factor @ gram @ factor
    made: Tensor = product @ x
    return made.transpose(1, 2) if tall else made


class MuonAdam(torch.optim.Optimizer):
    """Muon on inner kernels, Adam on biases, first and last layers and norms.

    Inner are those with at least ``MIN_CHANNELS`` channels on both sides.

    Parameters
    ----------
    parameters
        What is optimised.
    lr
        Adam's rate.
    betas
        Adam's.
    momentum
        Muon's, with Nesterov's look-ahead.
    muon_ratio
        Muon's rate as a multiple of ``lr``.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
        muon_ratio: float = 10.0,
    ) -> None:
        kernels: list[Tensor] = []
        rest: list[Tensor] = []
        for parameter in parameters:
            if _is_inner_kernel(parameter):
                kernels.append(parameter)
            else:
                rest.append(parameter)
        groups: list[dict[str, Any]] = []
        if kernels:
            groups.append({"params": kernels, "muon": True})
        if rest:
            groups.append({"params": rest, "muon": False})
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "muon_ratio": muon_ratio}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change what has a gradient. ``closure`` is not called."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["muon"]:
                self._step_muon(group, parameters)
            else:
                self._step_adam(group, parameters)

    def _step_muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        momentum = group["momentum"]
        gradients = _gradients_of(parameters)
        momenta = [self._state_of(parameter, "momentum") for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1.0 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum)
        rate = group["lr"] * group["muon_ratio"]
        for (rows, columns), members in _group_by_shape(parameters).items():
            matrices = [ahead[index].reshape(rows, columns) for index in members]
            changes = orthogonalize(torch.stack(matrices))
            scale = max(1.0, rows / columns) ** 0.5
            for index, change in zip(members, changes, strict=True):
                parameter = parameters[index]
                change = change.view(parameter.shape)
                parameter.add_(change, alpha=-rate * scale)

    def _step_adam(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        gradients = _gradients_of(parameters)
        first = [self._state_of(parameter, "exp_avg") for parameter in parameters]
        second = [self._state_of(parameter, "exp_avg_sq") for parameter in parameters]
        count = self.state[parameters[0]].setdefault("step", torch.zeros(()))
        count += 1
        torch._foreach_lerp_(first, gradients, 1.0 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - beta2)
        steps = float(count)
        correction1 = 1.0 - beta1**steps
        correction2 = 1.0 - beta2**steps
        denominators = torch._foreach_sqrt(second)
        torch._foreach_div_(denominators, correction2**0.5)
        torch._foreach_add_(denominators, 1e-8)
        rate = group["lr"] / correction1
        torch._foreach_addcdiv_(parameters, first, denominators, -rate)

    def _state_of(self, parameter: Tensor, key: str) -> Tensor:
        """What is kept of a parameter from step to step; zeros at first."""
        state = self.state[parameter]
        if key not in state:
            state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        kept: Tensor = state[key]
        return kept


def _is_inner_kernel(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[:2]) >= MIN_CHANNELS


def _gradients_of(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _group_by_shape(parameters: list[Tensor]) -> dict[tuple[int, int], list[int]]:
    """Indices of kernels with the same rows and columns as matrices, which are orthogonalised together."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for index, parameter in enumerate(parameters):
        shape = (parameter.shape[0], parameter[0].numel())
        shapes.setdefault(shape, []).append(index)
    return shapes
