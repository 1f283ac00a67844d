"""Dropout whose randomness is passed, and cheap on a CPU: one random byte an element.

``torch.nn.functional.dropout`` draws from the global generator, and on a CPU it takes ten times longer than the layer it
regularises. Here eight masks come from one 64-bit draw; the rate is rounded to a multiple of 1/256.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Dropout:
    """Set elements to zero with probability ``rate`` and scale the rest, so that the mean stays.

    Parameters
    ----------
    rate
        Probability of zero; rounded to the nearest 1/256.
    generator
        Source of randomness, or ``None`` to pass everything through unchanged (as when answering).
    """

    def __init__(self, rate: float = 0.0, generator: torch.Generator | None = None) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"the dropout rate must be in [0, 1), not {rate}")
        self.cut = min(round(rate * 256), 255) if generator is not None else 0
        self.generator = generator

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` with some elements set to zero."""
        if self.cut == 0:
            return x
        keep = random_bytes(x.numel(), self.generator, x.device).view(x.shape) >= self.cut
        return x * keep.to(x.dtype).mul_(self.scale)

    @property
    def scale(self) -> float:
        """What elements that stay are multiplied with."""
        return 256 / (256 - self.cut)


#: Passes everything through.
OFF = Dropout()


def random_bytes(n: int, generator: torch.Generator | None, device: torch.device | str = "cpu") -> Tensor:
    """Return ``uint8[n]``, uniform on 0 to 255."""
    words = torch.empty(-(-n // 8), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:n]
