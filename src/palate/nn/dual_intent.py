"""Dual intent: what somebody always likes (their vector) and what they want now (the query, or a guess of it).

    Q(q) = Σ_{w in q} w                                                       told demand
    k_u  = W_aᵀ (W_K [e_u; w_1; w_2; w_3] + b)                                w_1..3: the words that u used most
    s_u  = w_1 + w_2 + w_3        s_i = Σ_t a_t w_t,  a = softmax_t <k_u, w_t>     w_t: the words that led to i most
    q̃(u, i) = MLP([e_u; e_i; s_u; s_i])                                       guessed demand
    score = f([e_u*; e_i*; demand])                                           one network f for search, one for the feed

The published attention ``k_u · (W_a w_t + b_a)`` adds the same ``k_u · b_a`` to every word of a list, which the softmax takes
out again; so there is no ``b_a`` here, and ``W_a`` is applied to the key, once a person. Lists are ragged: where a person or an
item has fewer words, nothing stands in their place (a missing word of the key is zero, and learns nothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.data.ragged import Ragged, take_rows
from palate.nn.additive_attention import Neighbours
from palate.nn.dot_attention import dot_attention
from palate.nn.dropout import OFF
from palate.nn.mlp import MLP, dense
from palate.nn.take import take

#: Words of a person in the key.
OWN_WORDS = 3


@dataclass(frozen=True)
class People:
    """What a guess needs to know of people: ``float32[n, d]`` vectors, sums of their words, and keys."""

    vectors: Tensor
    words: Tensor
    keys: Tensor

    def take(self, rows: np.ndarray) -> Self:
        """Return some of them, with gradient."""
        return type(self)(*(take(part, rows) for part in (self.vectors, self.words, self.keys)))


class DualIntent(nn.Module):
    """Words, the generator of demands, and the two scores.

    Parameters
    ----------
    n_words
        Words that queries are read in.
    dim
        d.
    rng
        Draws the start: words from Glorot's uniform distribution, layers from his normal one.
    """

    def __init__(self, n_words: int, dim: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.n_words, self.dim = n_words, dim
        self.words = nn.Parameter(glorot(n_words, dim, rng))
        hidden = (max(1, 3 * dim // 2), max(1, 3 * dim // 4))
        with torch.random.fork_rng(devices=[]):  # torch's layers draw a start of their own first
            self.key = dense((1 + OWN_WORDS) * dim, dim, rng)
            self.gate = dense(dim, dim, rng, bias=False)
            self.generator = MLP(4 * dim, (2 * dim, 2 * dim), dim, rng, activation=lambda width: nn.Tanh())
            self.search = MLP(3 * dim, hidden, 1, rng, activation=lambda width: nn.LeakyReLU())
            self.feed = MLP(3 * dim, hidden, 1, rng, activation=lambda width: nn.LeakyReLU())

    def people(self, vectors: Tensor, own: Ragged) -> People:
        """Return people with these vectors ``float32[n, d]`` and most used words (at most :data:`OWN_WORDS` each)."""
        slots = own_slots(own, self.n_words)
        known = take(torch.cat([self.words, self.words.new_zeros(1, self.dim)]), slots.ravel())
        told = known.view(len(slots), OWN_WORDS, self.dim)
        keys = self.key(torch.cat([vectors, told.flatten(1)], 1)) @ self.gate.weight
        return People(vectors, told.sum(1), keys)

    def guess(self, people: People, items: Tensor, lists: Neighbours) -> Tensor:
        """Return ``float32[n, d]``: the demand q̃ of each person for the item beside them.

        Parameters
        ----------
        people
            ``n`` people, a row for each pair.
        items
            ``float32[n, d]`` vectors of the items.
        lists
            The words that led to each of the items.
        """
        told = dot_attention(people.keys, self.words, lists)
        found: Tensor = self.generator(torch.cat([people.vectors, items, people.words, told], 1), OFF)
        return found

    def score(self, people: Tensor, items: Tensor, demands: Tensor, *, search: bool) -> Tensor:
        """Return ``float32[n]`` scores of pairs, from final vectors and demands ``float32[n, d]``."""
        network = self.search if search else self.feed
        found: Tensor = network(torch.cat([people, items, demands], 1), OFF)[:, 0]
        return found


def own_slots(own: Ragged, n_words: int) -> np.ndarray:
    """Return ``int64[n, 3]``: the words of ragged lists in columns, ``n_words`` where there is none."""
    slots = np.full((len(own), OWN_WORDS), n_words, np.int64)
    slots[np.arange(OWN_WORDS) < own.lengths[:, None]] = own.values
    return slots


def lists_of(words: Ragged, rows: np.ndarray, n_words: int) -> Neighbours:
    """Return the word lists of some rows, in that order, as :meth:`DualIntent.guess` reads them."""
    offsets, values = take_rows(words.offsets, rows, words.values)
    return Neighbours(offsets, values, n_words)


def glorot(rows: int, dim: int, rng: np.random.Generator) -> Tensor:
    """Return ``float32[rows, dim]`` from Glorot's uniform distribution."""
    bound = np.sqrt(6 / max(1, rows + dim))
    return torch.from_numpy(rng.uniform(-bound, bound, (rows, dim)).astype(np.float32))


def translation_contrast(people: Tensor, demands: Tensor, had: Tensor, others: Tensor, total: int) -> Tensor:
    """Return ``-1/B Σ ln σ(D(other) - D(had))`` with ``D(x) = mean_d (e_u* + q - e_x*)²``; ``total`` is B."""
    wanted = people + demands
    near, far = ((wanted - items).square().mean(1) for items in (had, others))
    return functional.softplus(near - far).sum() / max(1, total)


def supervision(guessed: Tensor, told: Tensor, total: int) -> Tensor:
    """Return ``1/B Σ mean_d (q̃ - Q)²`` over the search rows of a batch of ``total`` rows, all scenarios counted."""
    return (guessed - told).square().mean(1).sum() / max(1, total)
