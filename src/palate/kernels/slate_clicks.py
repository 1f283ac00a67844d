"""What simulated people click on slates, and how that moves them.

logits    b (no click),  -scale ‖z - v_i‖ for each item shown
choice    the first slot whose running share of the softmax exceeds a uniform number, no click first
state     z' = γ z + (1 - γ) v of the clicked item; no click moves nothing
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled


def click_slates_reference(
    states: np.ndarray,
    users: np.ndarray,
    slates: np.ndarray,
    vectors: np.ndarray,
    chance: np.ndarray,
    scale: float,
    no_click: float,
    gamma: float,
) -> np.ndarray:
    """Return ``int32[m]``: what was clicked, 0 nothing, else the place from 1; ``states`` are moved in place, row by row.

    Parameters
    ----------
    states
        ``float32[n, d]`` of all people.
    users
        ``int32[m]`` who sees each slate.
    slates
        ``int32[m, k]`` items, -1 last.
    vectors
        ``float32[n_items, d]``.
    chance
        ``float64[m]`` uniform numbers.
    """
    clicked = np.zeros(len(users), np.int32)
    for row, (user, slate) in enumerate(zip(users.tolist(), slates, strict=True)):
        shown = slate[slate >= 0]
        far = np.sqrt(((states[user] - vectors[shown]).astype(np.float64) ** 2).sum(1))
        logits = np.concatenate([[no_click], -scale * far])
        weights = np.exp(logits - logits.max())
        running = np.cumsum(weights)
        at = min(int(np.searchsorted(running, chance[row] * running[-1], side="right")), len(shown))
        clicked[row] = at
        if at:
            states[user] = gamma * states[user] + (1 - gamma) * vectors[shown[at - 1]]
    return clicked


def click_slates(
    states: np.ndarray,
    users: np.ndarray,
    slates: np.ndarray,
    vectors: np.ndarray,
    chance: np.ndarray,
    scale: float,
    no_click: float,
    gamma: float,
) -> np.ndarray:
    """As :func:`click_slates_reference`, fast."""
    clicked = np.zeros(len(users), np.int32)
    one = np.float32
    _click(states, users, slates, vectors, chance, one(scale), one(no_click), one(gamma), clicked)
    return clicked


@compiled(fast_math=True, inline="always")
def _distance(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for c in range(a.shape[0]):
        total += (a[c] - b[c]) * (a[c] - b[c])
    return np.sqrt(total)


@compiled()
def _click(states, users, slates, vectors, chance, scale, no_click, gamma, clicked):  # type: ignore[no-untyped-def]
    width = slates.shape[1]
    weights = np.empty(width + 1, np.float32)
    for row in range(users.shape[0]):
        z = states[users[row]]
        shown, top = 0, no_click
        weights[0] = no_click
        for at in range(width):
            item = slates[row, at]
            if item < 0:
                break
            score = -scale * _distance(z, vectors[item])
            weights[at + 1] = score
            top = max(top, score)
            shown += 1
        total = np.float32(0.0)
        for at in range(shown + 1):
            weights[at] = np.exp(weights[at] - top)
            total += weights[at]
        aim = np.float32(chance[row]) * total
        running, slot = np.float32(0.0), shown
        for at in range(shown + 1):
            running += weights[at]
            if running > aim:
                slot = at
                break
        clicked[row] = slot
        if slot > 0:
            v = vectors[slates[row, slot - 1]]
            for c in range(z.shape[0]):
                z[c] = gamma * z[c] + (1 - gamma) * v[c]
