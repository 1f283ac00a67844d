"""A stack of dense layers, as click models have it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from palate.nn.affine import Affine, hidden
from palate.nn.batch_norm import BatchNorm
from palate.nn.dropout import Dropout


class MLP(nn.Module):
    """Dense layers, each with batch normalisation (by option), an activation and dropout; a plain one at the end, by option.

    Parameters
    ----------
    width
        Length of what comes in.
    hidden
        Widths of the layers.
    out
        Length of what a last plain layer gives, or ``None`` for no such layer.
    rng
        Draws the start (Glorot normal; biases 0).
    batch_norm
        Whether layers are normalised over the batch before the activation.
    activation
        Makes the activation of a layer from its width; ReLU by default.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        out: int | None,
        rng: np.random.Generator,
        *,
        batch_norm: bool = False,
        activation: Callable[[int], nn.Module] = lambda width: nn.ReLU(),
    ) -> None:
        super().__init__()
        sizes = [width, *hidden]
        self.layers = nn.ModuleList(dense(a, b, rng) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(BatchNorm(b) for b in hidden) if batch_norm else None
        self.activations = nn.ModuleList(activation(b) for b in hidden)
        self.last = None if out is None else dense(sizes[-1], out, rng)
        self.width = sizes[-1] if out is None else out

    def forward(self, x: Tensor, drop: Dropout) -> Tensor:
        """Return ``float32[n, out]``."""
        for at, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            if self.norms is None and type(self.activations[at]) is nn.ReLU:
                x = hidden(x, layer.weight, layer.bias, drop)
                continue
            x = layer(x)
            if self.norms is not None:
                x = self.norms[at](x)
            x = drop(self.activations[at](x))
        return x if self.last is None else self.last(x)


def dense(width: int, out: int, rng: np.random.Generator, *, bias: bool = True) -> nn.Linear:
    """Return a dense layer, its start drawn from a Glorot normal distribution, biases 0."""
    layer = Affine(width, out, bias=bias)
    with torch.no_grad():
        spread = np.sqrt(2 / (width + out))
        layer.weight.copy_(torch.from_numpy((spread * rng.standard_normal((out, width))).astype(np.float32)))
        if bias:
            layer.bias.zero_()
    return layer
