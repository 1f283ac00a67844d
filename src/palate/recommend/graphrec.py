"""GraphRec: a person is what they thought of items and who their friends are; an item is who thought what of it.

With opinions r of people on items (levels of rating, each with a vector e_r), p and q the free vectors::

    x_ia = g([q_a; e_r])        h_i = relu(W Σ_a α_ia x_ia + b)           α over the items of i, by [x_ia; p_i]
                                s_i = relu(W Σ_o β_io h_o + b)            β over the friends of i, by [h_o; p_i]
    f_jt = g'([p_t; e_r])       z_j = relu(W Σ_t μ_jt f_jt + b)           μ over the people of j, by [f_jt; q_j]

    u_i = W relu(W [h_i; s_i])      v_j = W relu(W z_j)      score = w relu(W relu(W [u_i; v_j]))  (``mlp``), or <u_i, v_j>

Each attention is a softmax of a two-layer network; g and g' have two layers too. (Every W and b is another one.)

The paper predicts ratings. Here the catalogue is ranked: the loss is BPR (default), or the squared error of ratings, brought
to mean 0 and deviation 1 (``loss="regression"``, which ranks by predicted rating and needs values). Ranking by ``mlp`` passes
every item through the network, person by person; ``dot`` is a product.

A person is computed from the history of the request and the opinions in it; an event without a value has the commonest opinion.
Of a known person, p_i and s_i stay as training left them; somebody unknown has p = 0 and no friends.

Source: W. Fan et al., "Graph Neural Networks for Social Recommendation", WWW 2019, equations 1 to 23.
Differences: the published code gives friends their free vectors, for speed; here they come with h_o, as in the paper. No batch
normalisation or dropout, which the equations don't have. One linear layer follows h and z on each side, as in the code. Values
are cut into ``levels`` at quantiles where there are more distinct ones. The whole graph is passed at each step, so that no
neighbour is left out; batches are larger for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import offsets_of
from palate.errors import DataError
from palate.kernels.additive_attention import attend
from palate.nn.adam import Adam
from palate.nn.additive_attention import Neighbours, additive_attention
from palate.nn.social import SocialGraph
from palate.recommend.left_out import explain_left_out
from palate.recommend.opinions import Opinions
from palate.recommend.shares import knows_items
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator

#: Width of the last hidden layer of ``mlp``, as in the published code.
MEETING = 16


class GraphRecConfig(TrainConfig):
    """Settings of GraphRec."""

    epochs: int = Field(60, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(4096, gt=0, description="pairs a batch")
    lr: float = Field(3e-3, gt=0, description="step size of Adam")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    reg: float = Field(1e-4, ge=0, description="weight of the squared size of the free vectors")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")
    levels: int = Field(5, gt=0, description="opinions that values are cut into (1 = all alike)")
    loss: Literal["bpr", "regression"] = Field("bpr", description="ranking, or the squared error of ratings")
    decoder: Literal["mlp", "dot"] = Field("mlp", description="how a person and an item meet")


class GraphRec(Recommender):
    """Attention over opinions and friends (see the module's text)."""

    name: ClassVar[str] = "graphrec"
    Settings = GraphRecConfig
    config: GraphRecConfig

    arrays_: dict[str, np.ndarray]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        social = SocialGraph.of(dataset, "GraphRec")
        opinions = Opinions.of(dataset, c.levels)
        if c.loss == "regression" and not opinions.valued:
            raise DataError(
                "GraphRec learns ratings here, and the data have none.", where="loss", value=c.loss, remedy="set loss=bpr"
            )
        network = Network(dataset, social, opinions, c, fitting.rng("graphrec", "weights"))
        network.to(usable_device(fitting.device))
        pairs = Pairs(dataset.matrix(), c.batch_size)
        kind = Adam if network.people.device.type == "cpu" else torch.optim.AdamW

        record = fit_module(
            network,
            batches=lambda epoch, rng: pairs.epoch(rng, negatives=c.loss == "bpr"),
            loss=network.loss,
            config=c,
            fitting=fitting,
            title="GraphRec",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(network)),
            optimizer=kind(list(network.parameters()), lr=c.lr, weight_decay=c.weight_decay),
        )
        self._finish(network)
        return {**record.notes, "ties": social.counts, "levels": opinions.levels}

    @torch.no_grad()
    def _finish(self, network: Network) -> None:
        """Keep what answers."""
        _, friends, _ = network.persons()
        trained = torch.from_numpy(self.histories_.lengths > 0).to(friends.device)[:, None]
        found = {
            "people": torch.where(trained, network.people, 0.0),
            "friends": torch.where(trained, friends, 0.0),
            "nobody": torch.relu(network.social_out.bias),
            "opinions": network.opinion(network.items, network.item_side),
            "items": network.things(),
            **{f"network/{n}": t for n, t in network.state_dict().items() if n not in ("people", "items")},
        }
        self.arrays_ = {name: tensor.detach().cpu().numpy().copy() for name, tensor in found.items()}
        self.arrays_ |= {"bounds": network.opinions.bounds, "typical": np.array([network.opinions.typical], np.int64)}

    def _scores(self, requests: Requests) -> np.ndarray:
        a, people = self.arrays_, self._persons(requests)
        if self.config.decoder == "dot":
            return people @ a["items"].T
        d = people.shape[1]
        first, bias = a["network/meet_in.weight"].T, a["network/meet_in.bias"]
        second, last = a["network/meet_mid.weight"].T, a["network/meet_out.weight"][0]
        ours, theirs = people @ first[:d], a["items"] @ first[d:] + bias
        out = np.empty((len(people), self.n_items), np.float32)
        for row, own in enumerate(ours):
            hidden = np.maximum(np.maximum(theirs + own, 0) @ second + a["network/meet_mid.bias"], 0)
            out[row] = hidden @ last
        return out

    def _persons(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]`` vectors u."""
        a = self.arrays_
        opinions = Opinions(a["bounds"], int(a["typical"][0]), self.n_items)
        offsets, columns = opinions.read(requests.histories, self.item_counts_ > 0)
        used, places = np.unique(columns, return_inverse=True)
        known = (requests.users >= 0)[:, None]
        users = np.maximum(requests.users, 0)
        own = np.where(known, a["people"][users], np.float32(0))
        friends = np.where(known, a["friends"][users], a["nobody"])
        x = a["opinions"][used]
        rows, others = own @ a["network/item_rows"] + a["network/item_bias"], x @ a["network/item_columns"]
        gathered, _ = attend(offsets, places.astype(np.int32), rows, others, a["network/item_score"], x)
        liked = np.maximum(_linear(a, "item_out", gathered), 0)
        hidden = np.maximum(_linear(a, "person_in", np.hstack([liked, friends])), 0)
        return _linear(a, "person_out", hidden)

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Say how far the score falls when each item of the history, with the opinion on it, is left out."""
        return explain_left_out(self, request, item)

    def _state(self) -> dict[str, np.ndarray]:
        return dict(self.arrays_)

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.arrays_ = dict(state)

    def _forget(self, numbers: np.ndarray) -> None:
        for name in ("people", "friends"):
            self.arrays_[name] = self.arrays_[name].copy()
            self.arrays_[name][numbers] = 0


class Network(nn.Module):
    """Free vectors, attention networks and the layers between."""

    def __init__(
        self, dataset: Dataset, social: SocialGraph, opinions: Opinions, config: GraphRecConfig, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.config, self.opinions, d = config, opinions, config.dim
        self.friends = Neighbours.of(social.ties)
        offsets, columns = opinions.read(dataset.histories)
        self.item_pairs, self.liked = _packed(offsets, columns)
        self.people_pairs, self.audience = _packed(*_turned(offsets, columns, dataset.n_items, dataset.n_users))
        self.matrix = dataset.matrix(values=True) if config.loss == "regression" else None
        self.mean, self.spread = opinions.scale

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale)))

        def linear(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
            made: nn.Linear = skip_init(nn.Linear, n_in, n_out, bias=bias)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                made.weight.copy_(normal(n_out, n_in, scale=(2 / n_in) ** 0.5))
                if bias:
                    made.bias.zero_()
            return made

        self.people = normal(dataset.n_users, d, scale=config.init)
        self.items = normal(dataset.n_items, d, scale=config.init)
        self.stance = normal(opinions.levels, d, scale=config.init)
        self.item_side = nn.ModuleList([linear(2 * d, d), linear(d, d)])
        self.people_side = nn.ModuleList([linear(2 * d, d), linear(d, d)])
        for part in ("item", "social", "people"):
            setattr(self, f"{part}_rows", normal(d, d, scale=d**-0.5))
            setattr(self, f"{part}_columns", normal(d, d, scale=d**-0.5))
            setattr(self, f"{part}_bias", nn.Parameter(torch.zeros(d)))
            setattr(self, f"{part}_score", normal(d, scale=d**-0.5))
        self.item_out, self.social_out, self.audience_out = linear(d, d), linear(d, d), linear(d, d)
        self.person_in, self.person_out = linear(2 * d, d), linear(d, d)
        self.thing_in, self.thing_out = linear(d, d), linear(d, d)
        self.meet_in, self.meet_mid = linear(2 * d, d), linear(d, MEETING)
        self.meet_out = linear(MEETING, 1, bias=False)

    def opinion(self, vectors: Tensor, layers: nn.ModuleList, pairs: np.ndarray | None = None) -> Tensor:
        """Return ``[m, d]``: g of vectors with levels, for ``int64[m]`` pairs ``level * n + vector`` (``None``: all)."""
        first, second = layers
        assert isinstance(first, nn.Linear)
        n, d = vectors.shape
        chosen = np.arange(len(self.stance) * n) if pairs is None else pairs
        level, vector = (torch.from_numpy(part).to(vectors.device) for part in np.divmod(chosen, n))
        weight = first.weight.T
        hidden = functional.embedding(vector, vectors @ weight[:d])
        hidden = hidden + functional.embedding(level, self.stance @ weight[d:] + first.bias)
        out: Tensor = functional.relu(second(functional.relu(hidden)))
        return out

    def gather(self, part: str, rows: Tensor, columns: Tensor, near: Neighbours) -> Tensor:
        """Return the neighbours' vectors, weighed by one of the three attention networks."""
        a = rows @ getattr(self, f"{part}_rows") + getattr(self, f"{part}_bias")
        b = columns @ getattr(self, f"{part}_columns")
        return additive_attention(a, b, getattr(self, f"{part}_score"), columns, near)

    def persons(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return h, s and u of everybody."""
        x = self.opinion(self.items, self.item_side, self.item_pairs)
        liked = functional.relu(self.item_out(self.gather("item", self.people, x, self.liked)))
        friends = functional.relu(self.social_out(self.gather("social", self.people, liked, self.friends)))
        return liked, friends, self.person_out(functional.relu(self.person_in(torch.cat([liked, friends], 1))))

    def things(self) -> Tensor:
        """Return v of all items."""
        f = self.opinion(self.people, self.people_side, self.people_pairs)
        found = functional.relu(self.audience_out(self.gather("people", self.items, f, self.audience)))
        out: Tensor = self.thing_out(functional.relu(self.thing_in(found)))
        return out

    def meet(self, people: Tensor, items: Tensor) -> Tensor:
        """Return ``[m]`` scores of people and items, row by row."""
        if self.config.decoder == "dot":
            return (people * items).sum(1)
        hidden = functional.relu(self.meet_in(torch.cat([people, items], 1)))
        out: Tensor = self.meet_out(functional.relu(self.meet_mid(hidden)))
        return out[:, 0]

    def loss(self, batch: Triples, generator: torch.Generator) -> Tensor:
        """Return BPR, or the squared error of standardised ratings, with the penalty of the free vectors."""
        c, (_, _, people), things = self.config, self.persons(), self.things()
        kept = np.flatnonzero(batch.negatives >= 0) if c.loss == "bpr" else np.arange(len(batch))
        u, i, j = (
            torch.from_numpy(a[kept].astype(np.int64)).to(people.device)
            for a in (batch.users, batch.positives, batch.negatives)
        )
        own, size = functional.embedding(u, people), functional.embedding(u, self.people).square().sum()
        score = self.meet(own, functional.embedding(i, things))
        size = size + functional.embedding(i, self.items).square().sum()
        if c.loss == "bpr":
            size = size + functional.embedding(j, self.items).square().sum()
            fit = functional.softplus(self.meet(own, functional.embedding(j, things)) - score).sum()
        else:
            assert self.matrix is not None
            values = np.asarray(self.matrix[batch.users, batch.positives], np.float32).ravel()
            wanted = torch.from_numpy((values - np.float32(self.mean)) / np.float32(self.spread))
            fit = (score - wanted.to(score.device)).square().sum()
        return (fit + c.reg / 2 * size) / len(batch)


def _packed(offsets: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, Neighbours]:
    """Return the distinct columns (``int64``), and the edges with these numbered from 0."""
    used, places = np.unique(columns, return_inverse=True)
    return used.astype(np.int64), Neighbours(offsets, places.astype(np.int32), len(used))


def _turned(offsets: np.ndarray, columns: np.ndarray, n_items: int, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the people of each item (``level * n_users + person``), from the items of each person, as offsets and columns."""
    level, item = np.divmod(columns.astype(np.int64), n_items)
    person = np.repeat(np.arange(n_users), np.diff(offsets))
    order = np.lexsort((person, level, item))
    return offsets_of(np.bincount(item, minlength=n_items)), level[order] * n_users + person[order]


def _linear(arrays: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    out: np.ndarray = x @ arrays[f"network/{name}.weight"].T + arrays[f"network/{name}.bias"]
    return out
