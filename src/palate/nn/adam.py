"""Adam for large tables on a CPU: one pass through memory a step, and the same bits for any number of threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.kernels.adam import adam_step


class Adam(torch.optim.Optimizer):
    """AdamW for float32 parameters on the CPU.

    Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, group)

    def _change(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        assert parameter.grad is not None
        weights, gradient, mean, square = (
            t.view(-1).numpy() for t in (parameter, parameter.grad.contiguous(), state["mean"], state["square"])
        )
        keys = {"lr": group["lr"], "betas": tuple(group["betas"]), "eps": group["eps"], "decay": group["weight_decay"]}
        adam_step(weights, gradient, mean, square, state["step"], **keys)
