"""Target attention: events of a person weighed by what they have to do with the item asked about.

Local activation unit, for the target's vector t and each event h_j of a row::

    a_j = MLP([t; h_j; t - h_j; t ⊙ h_j])        v = Σ_j a_j h_j

without softmax, so that v grows with the interest; or with one over the events of the row. The MLP's activation may be Dice::

    Dice(s) = p·s + (1 - p)·α·s,   p = σ( (s - E[s]) / √(Var[s] + ε) )

with E and Var over the events of the batch in training, and their running means afterwards. Padding takes no part in anything.

The first layer is applied by parts, so no row of joined vectors is made: with W = [W_1, W_2, W_3, W_4] the layer is (W_1 +
W_3) t + (W_2 - W_3) h_j + W_4 (t ⊙ h_j). In training only events that exist are computed. Where all rows share one history
(stride 0: many candidates for one person), the matrices W_1 + W_3 + W_4 diag(h_j) are made once, and all candidates go
through them in one product; where no gradient is asked for and there is one hidden layer, what follows it is part of the same
pass (:mod:`palate.kernels.pair_scores`).

Source: G. Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, equations 3 (attention) and 6
(Dice); the outer product of the paper's figure is, as in the authors' code, the elementwise product and the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.kernels.pair_scores import Unit, pair_scores
from palate.nn.affine import affine
from palate.nn.dropout import OFF
from palate.nn.mlp import MLP, dense
from palate.nn.take import take

Activation = Literal["dice", "prelu", "relu"]


def one_history(history: Tensor) -> bool:
    """Say whether all rows of ``[n, t, d]`` are the same by construction (expanded from one)."""
    return len(history) > 1 and history.stride(0) == 0


class Dice(nn.Module):
    """The activation Dice (see the module's text).

    Parameters
    ----------
    width
        Length of the vectors; each element has its own α, which starts at 0.
    """

    def __init__(self, width: int, *, eps: float = 1e-8, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, s: Tensor) -> Tensor:
        """Return ``float32[m, width]``."""
        learning = self.training and len(s) > 1
        normal = functional.batch_norm(
            s, self.get_buffer("mean"), self.get_buffer("variance"), None, None, learning, self.momentum, self.eps
        )
        if not torch.is_grad_enabled():  # the same, without a new array a step
            return normal.sigmoid_().mul_(1 - self.alpha).add_(self.alpha).mul_(s)
        p = torch.sigmoid(normal)
        return s * (self.alpha + (1 - self.alpha) * p)


def activation_of(kind: Activation) -> Callable[[int], nn.Module]:
    """Return what makes an activation from a width."""
    made: dict[str, Callable[[int], nn.Module]] = {"dice": Dice, "prelu": nn.PReLU, "relu": lambda width: nn.ReLU()}
    return made[kind]


class PairNet(nn.Module):
    """Dense layers over pairs of a row's context c and each of its events h_j: ``MLP([c; h_j; c - h_j; c ⊙ h_j])``.

    Parameters
    ----------
    context, width
        Lengths of a context and of an event.
    hidden, out
        Widths of the layers (one at least), and of what comes out.
    rng
        Draws the start.
    difference, product
        Whether ``c - h_j`` and ``c ⊙ h_j`` come in; both lengths must then be the same.
    activation
        Of all layers but the last.
    """

    def __init__(
        self,
        context: int,
        width: int,
        hidden: Sequence[int],
        out: int,
        rng: np.random.Generator,
        *,
        difference: bool = True,
        product: bool = True,
        activation: Activation = "dice",
    ) -> None:
        super().__init__()
        if (difference or product) and context != width:
            raise ValueError(f"a context of {context} and events of {width} have no difference or product")
        self.context, self.width, self.difference, self.product = context, width, difference, product
        self.first = dense(context + width * (1 + difference + product), hidden[0], rng)
        make = activation_of(activation)
        self.activation = make(hidden[0])
        self.rest = MLP(hidden[0], hidden[1:], out, rng, activation=make)

    def forward(self, context: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, t, out]``, 0 where there is no event.

        Parameters
        ----------
        context
            ``float32[n, context]``.
        history, mask
            ``float32[n, t, width]`` and ``bool[n, t]``.
        """
        n, t, _ = history.shape
        if one_history(history):
            return self._one(context, history[0], mask[0])
        places = np.flatnonzero(mask.cpu().numpy())
        if not len(places):
            return history.new_zeros(n, t, self.rest.width)
        of_context, of_event, of_product = self._parts()
        rows, events = places // t, take(history.reshape(n * t, -1), places)
        x = functional.linear(events, of_event) + take(functional.linear(context, of_context, self.first.bias), rows)
        if of_product is not None:
            x = x + functional.linear(events * take(context, rows), of_product)
        found = self.rest(self.activation(x), OFF)
        spread = found.new_zeros(n * t, found.shape[1])
        return spread.index_copy(0, torch.from_numpy(places).to(found.device), found).view(n, t, -1)

    def _one(self, context: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, t, out]`` of contexts with one history."""
        of_context, of_event, of_product = self._parts()
        n, events = len(context), history[mask]
        base = functional.linear(events, of_event, self.first.bias)
        if of_product is not None and self._covered(context, events):
            matrices = of_context + of_product * events[:, None]
            given, own, start = (t.contiguous().numpy() for t in (context, matrices, base))
            places = np.flatnonzero(mask.numpy())
            return torch.from_numpy(pair_scores(given, own, start, places, len(mask), self._unit()))
        if of_product is None:
            x = functional.linear(context, of_context)[:, None] + base
        else:
            matrices = of_context + of_product * events[:, None]
            x = affine(context, matrices.flatten(0, 1), base.flatten())
        out = context.new_zeros(n, len(mask), self.rest.width)
        if len(events):
            found = self.rest(self.activation(x.reshape(n * len(events), -1)), OFF)
            out[:, mask] = found.view(n, len(events), -1)
        return out

    def _covered(self, context: Tensor, events: Tensor) -> bool:
        plain = context.device.type == "cpu" and context.dtype == events.dtype == torch.float32
        known = isinstance(self.activation, Dice | nn.PReLU | nn.ReLU) and not self.rest.layers and self.rest.last is not None
        return plain and known and len(events) > 0 and not (torch.is_grad_enabled() or self.training)

    def _unit(self) -> Unit:
        """Return what follows the first layer, as it answers."""
        act, last = self.activation, self.rest.last
        assert isinstance(last, nn.Linear)
        width = last.in_features
        scale, shift, alpha = (np.zeros(width, np.float32) for _ in range(3))
        if isinstance(act, Dice):
            over = torch.rsqrt(act.get_buffer("variance") + act.eps)
            scale, shift, alpha = (t.detach().numpy() for t in (over, -act.get_buffer("mean") * over, act.alpha))
        elif isinstance(act, nn.PReLU):
            alpha += act.weight.detach().numpy()
        return Unit(isinstance(act, Dice), scale, shift, alpha, last.weight.detach().numpy(), last.bias.detach().numpy())

    def _parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the first layer's weights of context, event and product, those of the difference dealt to both."""
        weight, c, w = self.first.weight, self.context, self.width
        of_context, of_event, at = weight[:, :c], weight[:, c : c + w], c + w
        if self.difference:
            apart = weight[:, at : at + w]
            of_context, of_event, at = of_context + apart, of_event - apart, at + w
        return of_context, of_event, weight[:, at:] if self.product else None


class TargetAttention(nn.Module):
    """The local activation unit and its weighted sum (see the module's text).

    Parameters
    ----------
    width
        Length of the target's and the events' vectors.
    hidden, activation
        Of the unit.
    rng
        Draws the start; a score starts about 1 (a sum over events), so gradients reach the events from the first step on.
    softmax
        Whether weights of a row's events sum to 1.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        rng: np.random.Generator,
        *,
        activation: Activation = "dice",
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.softmax = softmax
        self.unit = PairNet(width, width, hidden, 1, rng, activation=activation)
        assert isinstance(self.unit.rest.last, nn.Linear)
        with torch.no_grad():
            self.unit.rest.last.bias.fill_(1.0)

    def weights(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, t]``, 0 where there is no event."""
        scores = self.unit(target, history, mask)[:, :, 0]
        return masked_softmax(scores, mask) if self.softmax else scores

    def forward(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, width]``: 0 for a row without events.

        Parameters
        ----------
        target
            ``float32[n, width]``.
        history, mask
            ``float32[n, t, width]`` and ``bool[n, t]``.
        """
        return weighted_sum(self.weights(target, history, mask), history)


def weighted_sum(weights: Tensor, history: Tensor) -> Tensor:
    """Return ``float32[n, d]``: ``Σ_j w_j h_j`` of ``float32[n, t]`` and ``float32[n, t, d]``."""
    if one_history(history):
        return weights @ history[0]
    return torch.bmm(weights[:, None], history)[:, 0]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return ``float32[n, t]``: the softmax over the events of each row, 0 elsewhere (and in a row without any)."""
    shares = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1)
    return shares * mask


def target_attention_reference(unit: TargetAttention, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
    """As the layer outside training, event by event and by the plain definition."""
    out = torch.zeros_like(target)
    for row in range(len(target)):
        scores, events = [], history[row][mask[row]]
        for event in events:
            joined = torch.cat([target[row], event, target[row] - event, target[row] * event])
            x = unit.unit.activation(unit.unit.first(joined)[None])
            scores.append(unit.unit.rest(x, OFF)[0, 0])
        if not scores:
            continue
        weights = torch.stack(scores)
        out[row] = (weights.softmax(0) if unit.softmax else weights) @ events
    return out
