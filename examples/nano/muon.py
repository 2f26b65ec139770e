"""Muon (Jordan et al. 2024): steps of the same size in every direction a matrix has. The nano models learn more
in each of them than with AdamW.

torch.optim.Muon takes matrices only and multiplies in bfloat16, which a CPU may not have: this one takes all
parameters of a model, so that trainers see a single optimizer, and multiplies in float32 there.
"""

from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Muon for matrices and convolutions, AdamW for everything else of a model.

    The learning rate is AdamW's: Muon's steps are scaled to the size that AdamW's have (Liu et al. 2025).
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        hidden = [p for p in model.parameters() if p.requires_grad and p.ndim in (2, 4)]
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        hidden = [p for p in hidden if id(p) not in tables and min(p.flatten(1).shape) >= 16]
        matrices = {id(p) for p in hidden}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in matrices]
        groups: list[dict[str, Any]] = [
            {"params": others, "momentum": None},
            {"params": hidden, "momentum": momentum},
        ]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        muon = [group for group in self.param_groups if group["momentum"]]
        for group in muon:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        # AdamW passes over what has no gradient
        kept = [(p, p.grad) for group in muon for p in group["params"]]
        for parameter, _ in kept:
            parameter.grad = None
        result = super().step(closure)
        for parameter, gradient in kept:
            parameter.grad = gradient
        return result

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.tensor(0.0)  # AdamW asks for it when a state is loaded
        state["step"] += 1
        average, gradient = state["momentum"], parameter.grad
        assert gradient is not None
        average.lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(average, group["momentum"]).flatten(1))
        size = 0.2 * max(update.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix [n, m] with all singular values near 1, by Newton and Schulz's iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)
