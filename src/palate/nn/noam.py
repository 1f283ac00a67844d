"""AdamW whose step size rises, then falls with the root of the step (the schedule of the first transformer).

    lr_t = lr · d^-½ · min(t^-½, t · w^-3/2),   t from 1

Source: A. Vaswani et al., "Attention Is All You Need", NIPS 2017, equation 3.
"""

from __future__ import annotations

from typing import Any

import torch


class Noam(torch.optim.AdamW):
    """AdamW under the schedule; the step is counted by its own state, so a fit that is taken up goes on where it was.

    Parameters
    ----------
    params
        What is learnt.
    lr
        The factor before the schedule.
    dim
        d.
    warmup
        w: steps until the highest rate.
    betas, weight_decay
        Those of AdamW.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        dim: int,
        warmup: int,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=1e-9, weight_decay=weight_decay, fused=True)
        self.factor, self.dim, self.warmup = lr, dim, warmup

    def step(self, closure: Any = None) -> Any:
        """Change every parameter that has a gradient."""
        taken = max((float(state["step"]) for state in self.state.values()), default=0.0)
        for group in self.param_groups:
            group["lr"] = rate(taken + 1, self.factor, self.dim, self.warmup)
        return super().step(closure)


def rate(step: float, factor: float, dim: int, warmup: int) -> float:
    """Return the step size of a step, counted from 1."""
    return float(factor * dim**-0.5 * min(step**-0.5, step * warmup**-1.5))
