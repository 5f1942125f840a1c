"""Muon for convolution kernels, Adam for the rest: about twice as many useful steps in a short budget (docs/design.md, measured)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MUON = "Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, https://kellerjordan.github.io/posts/muon"
MIN_CHANNELS = 16
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalized(matrices: Tensor) -> Tensor:
    r"""Nearest semi-orthogonal matrix, roughly: singular values of each (N, R, C) matrix are pulled to about 0.7..1.2.

    Equation   X <- a X + (b X X^T + c (X X^T)^2) X, five times, from X / |X|_F
    Source     Jordan et al., Muon: an optimizer for hidden layers, 2024; quintic Newton-Schulz with the coefficients given there
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    # Each iteration multiplies X by a polynomial of its Gram matrix, so only R x R products are needed until the end: 2-3 times cheaper
    gram = x @ x.transpose(1, 2)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = eye
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = a * eye + b * gram + c * (gram @ gram)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.transpose(1, 2) if tall else x


class MuonAdam(torch.optim.Optimizer):
    """Muon on kernels with at least ``MIN_CHANNELS`` channels on both sides, Adam on biases, first and last layers and norms.

    lr          Adam's rate; Muon's is ``muon_ratio`` times as large
    momentum    Muon's, with Nesterov's look-ahead
    betas       Adam's
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
            inner = parameter.ndim >= 2 and min(parameter.shape[:2]) >= MIN_CHANNELS
            (kernels if inner else rest).append(parameter)
        groups: list[dict[str, Any]] = [{"params": kernels, "muon": True}, {"params": rest, "muon": False}]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "betas": betas, "momentum": momentum, "muon_ratio": muon_ratio},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._muon if group["muon"] else self._adam)(group, parameters)

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._state(p, "momentum") for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        shapes: dict[tuple[int, int], list[int]] = {}
        for index, parameter in enumerate(parameters):
            shapes.setdefault((parameter.shape[0], parameter[0].numel()), []).append(index)
        rate = group["lr"] * group["muon_ratio"]
        for (rows, columns), members in shapes.items():
            matrices = orthogonalized(torch.stack([ahead[index].reshape(rows, columns) for index in members]))
            scale = max(1.0, rows / columns) ** 0.5
            for index, matrix in zip(members, matrices, strict=True):
                parameters[index].add_(matrix.view(parameters[index].shape), alpha=-rate * scale)

    def _adam(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        first, second = ([self._state(p, key) for p in parameters] for key in ("exp_avg", "exp_avg_sq"))
        count = self.state[parameters[0]].setdefault("step", torch.zeros(()))
        count += 1
        torch._foreach_lerp_(first, gradients, 1.0 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - beta2)
        correction1, correction2 = 1.0 - beta1 ** float(count), 1.0 - beta2 ** float(count)
        denominators = torch._foreach_sqrt(second)
        torch._foreach_div_(denominators, correction2**0.5)
        torch._foreach_add_(denominators, 1e-8)
        torch._foreach_addcdiv_(parameters, first, denominators, -group["lr"] / correction1)

    def _state(self, parameter: Tensor, key: str) -> Tensor:
        state = self.state[parameter]
        if key not in state:
            state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        found: Tensor = state[key]
        return found
