"""AUGRU: a gated recurrent layer whose update gate is weighed by attention, so events of little weight hardly change its state.

::

    u_t = σ(W_u x_t + U_u s_{t-1})      r_t = σ(W_r x_t + U_r s_{t-1})      c_t = tanh(W_c x_t + r_t ∘ U_c s_{t-1})
    ũ_t = a_t · u_t                     s_t = (1 - ũ_t) ∘ s_{t-1} + ũ_t ∘ c_t                       (biases left out)

Sequences lie side by side in time order, as in :mod:`palate.nn.recurrent`, so a step computes only those that go on; the
inputs' part of all steps is one product.

Source: G. Zhou et al., "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI 2019, equations 16 and 17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TimeOrder:
    """Events of padded rows in time order: first events of all rows (the longest row first), then second ones …

    Attributes
    ----------
    rows
        ``int64[r]`` numbers of the rows that have events, the longest first.
    active
        ``int64[steps]``, not rising: how many rows have an event at each step.
    places
        ``int64[p]`` of each event in rows laid end to end (``row * width + position``).
    """

    rows: np.ndarray
    active: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> TimeOrder:
        """Return the order of ``bool[n, width]``, whose true values stand first in each row."""
        lengths, width = mask.sum(1), mask.shape[1]
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 0]
        steps = np.arange(int(lengths.max(initial=0)))
        going = steps[:, None] < lengths[order][None]
        return cls(order, going.sum(1), (order[None] * width + steps[:, None])[going])

    def __len__(self) -> int:
        return len(self.places)

    @property
    def starts(self) -> np.ndarray:
        """``int64[steps]``: where the events of each step begin."""
        return np.cumsum(self.active) - self.active

    @property
    def followed(self) -> np.ndarray:
        """``int64[q]``: the events that have a next one; the next ones are events ``active[0]`` and later, in this order."""
        parts = [start + np.arange(later) for start, later in zip(self.starts, self.active[1:], strict=False)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class AttentionGRU(nn.Module):
    """The layer (see the module's text).

    Parameters
    ----------
    width, hidden
        Lengths of inputs and of states.
    rng
        Draws the start: Glorot for inputs, orthogonal for recurrent matrices, biases 0.
    """

    def __init__(self, width: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.hidden = hidden
        self.inputs, self.states = nn.Linear(width, 3 * hidden), nn.Linear(hidden, 3 * hidden)
        start_recurrent([self.inputs.weight], [self.states.weight], [self.inputs.bias, self.states.bias], rng)

    def forward(self, x: Tensor, weights: Tensor, order: TimeOrder) -> Tensor:
        """Return ``float32[r, hidden]``: the last state of each of ``order.rows``.

        Parameters
        ----------
        x, weights
            ``float32[p, width]`` and ``float32[p]``, in time order.
        """
        given = self.inputs(x)
        state = x.new_zeros(len(order.rows), self.hidden)
        ended: list[Tensor] = []
        for start, count in zip(order.starts.tolist(), order.active.tolist(), strict=True):
            if count < len(state):
                ended.append(state[count:])
                state = state[:count]
            state = self._step(given[start : start + count], state, weights[start : start + count, None])
        return torch.cat([state, *reversed(ended)])

    def one(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return ``float32[n, hidden]``: last states of one sequence ``float32[t, width]`` under ``float32[n, t]`` weights."""
        given, state = self.inputs(x), x.new_zeros(len(weights), self.hidden)
        for at in range(len(x)):
            state = self._step(given[at], state, weights[:, at, None])
        return state

    def _step(self, given: Tensor, state: Tensor, weight: Tensor) -> Tensor:
        own, h = self.states(state), self.hidden
        gates = torch.sigmoid(given[..., : 2 * h] + own[:, : 2 * h])
        candidate = torch.tanh(given[..., 2 * h :] + gates[:, h:] * own[:, 2 * h :])
        return torch.lerp(state, candidate, weight * gates[:, :h])


def start_recurrent(
    inputs: Sequence[Tensor], states: Sequence[Tensor], biases: Sequence[Tensor], rng: np.random.Generator
) -> None:
    """Draw the start of three gates side by side: Glorot normal of each, orthogonal of recurrent ones, biases 0."""
    with torch.no_grad():
        for weight in inputs:
            for gate in weight.chunk(3):
                spread = np.sqrt(2 / sum(gate.shape))
                gate.copy_(torch.from_numpy((spread * rng.standard_normal(tuple(gate.shape))).astype(np.float32)))
        for weight in states:
            for gate in weight.chunk(3):
                gate.copy_(torch.from_numpy(np.linalg.qr(rng.standard_normal(tuple(gate.shape)))[0].astype(np.float32)))
        for bias in biases:
            bias.zero_()


def next_event_loss(states: Tensor, following: Tensor, other: Tensor, kept: Tensor) -> Tensor:
    """Return ``-mean[ ln σ(s·e) + ln σ(-s·e') ]`` over the pairs that are kept (0 without any).

    Parameters
    ----------
    states, following, other
        ``float32[q, d]``: the state after an event, the event that followed, and one of another person.
    kept
        ``bool[q]``: false where the other is the same item.
    """
    yes, no = ((states * events).sum(1)[kept] for events in (following, other))
    if not len(yes):
        return states.sum() * 0
    return (functional.softplus(-yes) + functional.softplus(no)).mean()
