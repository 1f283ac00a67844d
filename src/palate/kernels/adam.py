"""One step of Adam over a flat array, in one pass through memory."""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span

#: Numbers that make a second thread worth while.
WORK = 32


def adam_step_reference(
    weights: np.ndarray,
    gradient: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float = 0.0,
) -> None:
    """Change ``weights``, ``mean`` and ``square`` (``float32[n]``) in place by step number ``step`` (from 1).

    Source: D. Kingma, J. Ba, "Adam", ICLR 2015, algorithm 1; ``decay`` is decoupled (AdamW).
    """
    mean += (1 - betas[0]) * (gradient - mean)
    square += (1 - betas[1]) * (gradient**2 - square)
    corrected = np.sqrt(square / (1 - betas[1] ** step)) + eps
    weights -= lr * decay * weights
    weights -= lr / (1 - betas[0] ** step) * mean / corrected


def adam_step(
    weights: np.ndarray,
    gradient: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float = 0.0,
) -> None:
    """As :func:`adam_step_reference`, fast."""
    size = np.float32(lr / (1 - betas[0] ** step))
    scale = np.float32(1 / np.sqrt(1 - betas[1] ** step))
    keep, b1, b2, tiny = (np.float32(v) for v in (1 - lr * decay, 1 - betas[0], 1 - betas[1], eps))

    def run(low: int, high: int) -> None:
        _adam(weights, gradient, mean, square, size, scale, keep, b1, b2, tiny, low, high)

    each_span(run, np.linspace(0, len(weights), 9).astype(np.int64), WORK * len(weights))


@compiled(fast_math=True)
def _adam(weights, gradient, mean, square, size, scale, keep, b1, b2, tiny, low, high):  # type: ignore[no-untyped-def]
    w, grads, first, second = weights[low:high], gradient[low:high], mean[low:high], square[low:high]
    for at in range(len(w)):  # from 0 on slices: so that the compiler sees that no index is negative, and uses vectors
        g = grads[at]
        m = first[at] + b1 * (g - first[at])
        v = second[at] + b2 * (g * g - second[at])
        first[at], second[at] = m, v
        w[at] = keep * w[at] - size * m / (np.sqrt(v) * scale + tiny)
