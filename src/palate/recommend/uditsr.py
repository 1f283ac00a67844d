"""UDITSR: one model for the search box and the feed; what somebody wants now is their query, or is guessed where none is typed.

    q_e = Q(query) for an interaction found through a search, else q̃(u, i)         (:mod:`palate.nn.dual_intent`)
    e_i^(l) = mean of e_u^(l-1) + q_e,   e_u^(l) = mean of e_i^(l-1) - q_e            (:mod:`palate.nn.translation`)
    score = f_search([e_u*; e_i*; Q(query)])   or   f_feed([e_u*; e_i*; q̃(u, i)]),     e* = Σ_l e^(l) / (l + 1)

    L = 1/B Σ [ softplus(s_neg - s_pos) + λ_sg 1[search] mean_d (q̃ - Q)² + λ_c softplus(D(i) - D(j)) ] over interactions
    D(x) = mean_d (e_u* + q_e - e_x*)²,   j drawn from what the person never had

The second term is what makes the guess a guess of a query: queries of the search box teach it, the feed uses it.

**A recommender.** It learns from who had what, over people and items alike, and answers a person with a history: that is
``Recommender``, not a ranker of rows. A request with a text (``Requests.texts``) is a search, one without is a recommendation;
``candidates`` ask it to rank what something else has found. A query without any word that led to an interaction in training is
no query: the person is answered as in the feed. Which interactions came from a search is read from ``Dataset.searches``
(:mod:`palate.data.search_events`). A data set without any is refused, unless ``require_searches=False``: then all is
recommendation, the guess is taught by the ranking alone, and no text of a request is understood.

**People.** All is propagated once, after training. With ``H`` the history of the request and ``m_i`` the mean demand of its
events, told by the training queries that led there, else guessed::

    e_u*(H) = e_u(H) + 1/|H| Σ_{i in H} [ Σ_{l=1..L} e_i^(l-1)/(l+1) - m_i Σ_{l=1..L} 1/(l+1) ]
    e_u(H) = e_u - F(H_u) + F(H)

with ``F`` the ridge regression of ``e_u`` on the items' ``e_i``. With the training history this is exactly the trained
``e_u*``; an unseen person has ``F(H)`` and no words of their own. Whoever has a query but no history is the mean person.

Source: "Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation", KDD 2024, arXiv 2407.00912.
Differences from the published code:

- A query that is shorter than its place in a batch is not filled up. There, word 0 fills it and counts: it is added to every
  query, and takes part in the attention.
- ``leave_out``: where the guess is compared with a query, the most used words of person and item are counted without that
  query. There, they are counted with it, and the guess may copy what it is to foretell. ``leave_out=False`` is that.
- Scores are not passed through a last LeakyReLU, which bends margins below zero.
- As there, the interaction to be ranked is in the graph in training, and the second term is a mean over all rows, so its weight
  falls with the share of searches. Each step propagates over the whole graph.
- Step size 1e-3 in batches of 1024, 64 numbers a vector and 8 words a query (there 1e-4, 256, 100 and 3). Early stopping looks
  at NDCG@10 over the catalogue, of held-out answers with and without their queries (there HIT@5 among 100).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.fitted import FitRecord
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.query_words import QueryWords
from palate.data.ragged import Ragged, offsets_of
from palate.data.search_events import DAY, asked
from palate.errors import DataError
from palate.evaluation.judge import Facts, judge
from palate.kernels.inner import topk_inner
from palate.nn.dual_intent import OWN_WORDS, DualIntent, People, glorot, lists_of, supervision, translation_contrast
from palate.nn.sparse import Sparse
from palate.nn.take import take
from palate.nn.translation import TranslationGraph, readout, translate
from palate.recommend.folded import fold, ridge
from palate.retrieval.tokens import tokens
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.samplers import Unseen
from palate.training.search_rows import Lists, RowBatch, RowEpoch, SearchRows, ToldPairs

#: Pairs whose demand and score are computed at once in answers.
PAIRS = 8192
METRIC = "ndcg@10"


class UDITSRConfig(TrainConfig):
    """Settings of UDITSR."""

    epochs: int = Field(100, ge=0, description="passes over all interactions; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="interactions a batch, each with an item not had")
    weight_decay: float = Field(1e-5, ge=0, description="decoupled decay of weights towards zero")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    layers: int = Field(2, gt=0, description="L, propagation steps")
    sg_weight: float = Field(1.5, ge=0, description="λ_sg, weight of the guess's distance from real queries")
    cl_weight: float = Field(0.2, ge=0, description="λ_c, weight of the contrast of translations")
    translate: bool = Field(True, description="whether messages carry the demand of their edge (else plain means)")
    leave_out: bool = Field(True, description="whether most used words are counted without the query to be guessed")
    query_words: int = Field(8, gt=0, description="words of a query that are read, the first ones")
    item_words: int = Field(10, gt=0, description="words kept of those that led to an item")
    n_words: int = Field(20_000, gt=0, description="most words that are known")
    within: int = Field(DAY, ge=0, description="most seconds from a search to the interaction that it led to")
    require_searches: bool = Field(True, description="refuse data in which no interaction was found through a search")


class UDITSR(Recommender):
    """Search and recommendation by translated intents (see the module's text)."""

    name: ClassVar[str] = "uditsr"
    reads_words: ClassVar[bool] = True
    Settings = UDITSRConfig
    config: UDITSRConfig

    words_: QueryWords
    net_: DualIntent
    first_: np.ndarray  # float32[n_items, d], e_i
    final_: np.ndarray  # float32[n_items, d], e_i*
    lifts_: np.ndarray  # float32[n_items, d], Σ e_i^(l-1)/(l+1)
    shares_: np.ndarray  # float32[n_items, d], F of a history of that item alone
    own_: np.ndarray  # float32[n_users, d], e_u - F(H_u)
    mean_: np.ndarray  # float32[2, d], mean of e_u, and of e_u* - e_u
    own_words_: Ragged
    item_words_: Ragged
    told_: ToldPairs

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        rows, self.words_ = SearchRows.of(dataset, tokens, longest=c.query_words, most=c.n_words, within=c.within)
        if c.require_searches and not rows.n_told:
            raise DataError(
                "no interaction of the data set was found through a search.",
                where=f"{dataset.name}, searches: {0 if dataset.searches is None else dataset.searches.num_rows}",
                remedy="attach a log with palate.data.readers.logs.read_searches (with the person and the items chosen; "
                "see also within), or set require_searches=False to learn recommendation alone",
            )
        lists = rows.lists(OWN_WORDS, c.item_words, leave_out=c.leave_out)
        self.own_words_, self.item_words_, self.told_ = lists.people, lists.items, rows.told()
        trainer = _Trainer(rows, lists, c, fitting.rng("uditsr", "weights")).to(usable_device(fitting.device))
        unseen = Unseen(dataset.matrix())
        parameters = [p for p in trainer.parameters() if p.numel()]
        record = fit_module(
            trainer,
            batches=lambda epoch, rng: RowEpoch.draw(rows, unseen, c.batch_size, rng),
            loss=trainer.loss,
            config=c,
            fitting=fitting,
            title="UDITSR",
            evaluate=self._look(dataset, fitting, trainer),
            optimizer=torch.optim.AdamW(parameters, lr=c.lr, weight_decay=c.weight_decay, fused=True),
        )
        self._finish(trainer)
        return {**record.notes, "interactions by search": rows.n_told, "words": len(self.words_)}

    def _look(self, dataset: Dataset, fitting: Fitting, trainer: _Trainer) -> Callable[[], float] | None:
        """Return what early stopping asks for: the mean over held-out answers, those of searches asked with their query."""
        if fitting.validation is None or len(fitting.validation) == 0:
            return None
        parts = asked(dataset, fitting.validation, within=self.config.within)
        looks = [(part, texts) for part, texts in ((parts.recommendation, None), (parts.search, parts.texts)) if len(part)]
        facts = Facts(self.item_counts_, int((self.histories_.lengths > 0).sum()))

        def value() -> float:
            self._finish(trainer)
            answering = copy.copy(self)
            answering.record_ = FitRecord(seed=0, seconds=0.0)
            found = []
            for part, texts in looks:
                lists = answering.recommend(replace(Requests.of_held_out(part), texts=texts), 10).items
                found.append(judge(lists, part, [METRIC], facts).per_user[METRIC])
            return float(np.nanmean(np.concatenate(found)))

        return value

    @torch.no_grad()
    def _finish(self, trainer: _Trainer) -> None:
        """Propagate once, and set the arrays that answer."""
        c, n = self.config, trainer.rows.n_users
        layers = trainer.propagate()[1]
        whole, people = readout(layers).cpu().numpy(), layers[0][:n].cpu().numpy()
        lifts = sum((layer[n:] / (at + 2) for at, layer in enumerate(layers[:-1])), torch.zeros_like(layers[0][n:]))
        first, self.final_, self.lifts_ = layers[0][n:].cpu().numpy().copy(), whole[n:].copy(), lifts.cpu().numpy()
        active = self.histories_.lengths > 0
        inputs = fold(self.histories_, first)
        self.first_, self.shares_ = first, (first @ ridge(inputs[active], people[active])).astype(np.float32)
        self.shares_[self.item_counts_ == 0] = 0
        self.own_ = np.where(active[:, None], people - fold(self.histories_, self.shares_), 0).astype(np.float32)
        means = [part[active].mean(0) if active.any() else np.zeros(c.dim) for part in (people, whole[:n] - people)]
        self.mean_ = np.stack(means).astype(np.float32)
        self.net_ = copy.deepcopy(trainer.net).cpu().eval().requires_grad_(False)

    # -- answers --------------------------------------------------------------------------------

    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, m]`` scores of the items ``int32[n, m]`` of each request (-1 gives ``-inf``)."""
        self._check_request(requests, 1)
        items = self._check_items(items, "the items to score", lowest=-1)
        out, start = np.full(items.shape, -np.inf, np.float32), 0
        for block in requests.blocks(self._block_rows()):
            wanted, part = items[start : start + len(block)], out[start : start + len(block)]
            cold = ~self._informed(block)
            rows, columns = np.nonzero((wanted >= 0) & ~cold[:, None])
            part[rows, columns] = self._pairs(self._people(block), rows, wanted[rows, columns])
            known = (wanted >= 0) & cold[:, None]
            part[known] = self._popularity_scores(1)[0][wanted[known]]
            start += len(block)
        return out

    def _scores(self, requests: Requests) -> np.ndarray:
        rows, items = (a.ravel() for a in np.indices((len(requests), self.n_items)))
        return self._pairs(self._people(requests), rows, items).reshape(len(requests), self.n_items)

    def _informed(self, requests: Requests) -> np.ndarray:
        told = np.concatenate([[0], np.cumsum(self.item_counts_[requests.histories.items] > 0)])
        offsets = requests.histories.offsets
        return np.asarray((told[offsets[1:]] > told[offsets[:-1]]) | (np.diff(self._bags(requests).indptr) > 0))

    def _bags(self, requests: Requests) -> sparse.csr_matrix:
        """Return the known words of each query; empty rows are recommendation."""
        texts = requests.texts if requests.texts is not None else [""] * len(requests)
        return self.words_.bags([tokens(text or "") for text in texts])

    def _people(self, requests: Requests) -> _Asking:
        """Return what scores need to know of those who ask."""
        history = _known(requests.histories, self.item_counts_)
        empty, users = history.lengths == 0, requests.users
        free = fold(history, self.shares_)
        free[users >= 0] += self.own_[users[users >= 0]]
        free[empty] = self.mean_[0]
        people = self.net_.people(torch.from_numpy(free), self.own_words_.take(users))
        pair, times = np.unique(history.ragged.row_numbers * self.n_items + history.items, return_counts=True)
        rows, items = pair // self.n_items, pair % self.n_items
        moved = self.lifts_[items]
        if self.config.translate:
            demands = self.told_.mixed(users[rows], items, self._guess(people, rows, items), self.net_.words.numpy())
            moved = moved - demands * np.float32(sum(1 / (layer + 2) for layer in range(self.config.layers)))
        mean = sparse.csr_matrix((times.astype(np.float32), (rows, np.arange(len(rows)))), shape=(len(free), len(rows)))
        final = free + np.asarray(mean @ moved, np.float32) / np.maximum(history.lengths, 1)[:, None].astype(np.float32)
        final[empty] = self.mean_.sum(0)
        bags = self._bags(requests)
        queries = Sparse.of(bags).product(self.net_.words.numpy())
        return _Asking(people, np.ascontiguousarray(final, np.float32), queries, np.diff(bags.indptr) > 0)

    def _guess(self, people: People, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, d]`` guessed demands of pairs of a person's row and an item."""
        out = np.empty((len(rows), self.config.dim), np.float32)
        for at in _spans(len(rows)):
            lists = lists_of(self.item_words_, items[at], len(self.words_))
            out[at] = self.net_.guess(people.take(rows[at]), torch.from_numpy(self.first_[items[at]]), lists).numpy()
        return out

    def _pairs(self, asking: _Asking, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n]`` scores of pairs of an asker's row and an item."""
        out = np.empty(len(rows), np.float32)
        for search in (False, True):
            chosen = np.flatnonzero(asking.search[rows] == search)
            for at in _spans(len(chosen)):
                row, item = rows[chosen[at]], items[chosen[at]]
                demand = asking.queries[row] if search else self._guess(asking.people, row, item)
                inputs = (torch.from_numpy(a) for a in (asking.final[row], self.final_[item], demand))
                out[chosen[at]] = self.net_.score(*inputs, search=search).numpy()
        return out

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items whose final vectors have the highest cosine to each item's."""
        unit = self.final_ / np.maximum(np.linalg.norm(self.final_, axis=1, keepdims=True), 1e-12)
        unit = np.ascontiguousarray(unit, np.float32)
        return topk_inner(unit[items], unit, k, own, items)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Leave each item of the history out in turn, person and query as they are, and see how far the score falls."""
        self._check_question(request, item)
        own = np.unique(request.histories.items)
        kept = [request.histories.items[request.histories.items != left] for left in own]
        texts = None if request.texts is None else list(request.texts) * (len(own) + 1)
        users = np.repeat(request.users, len(own) + 1)
        asked_again = Requests(users, Histories.from_rows([request.histories.items, *kept]), texts=texts)
        scores = self.score(asked_again, np.full((len(users), 1), item, np.int32))[:, 0]
        falls = [Evidence("history", int(left), float(scores[0] - fall)) for left, fall in zip(own, scores[1:], strict=True)]
        falls.sort(key=lambda reason: -abs(reason.weight))
        return Explanation(item, float(scores[0]), tuple(falls), exact=False, method="leave one item of the history out")

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        net = {f"net/{name}": t.detach().numpy() for name, t in self.net_.state_dict().items()}
        lists = {"own_words": self.own_words_, "item_words": self.item_words_}
        ragged = {f"{name}/{part}": getattr(rows, part) for name, rows in lists.items() for part in ("offsets", "values")}
        arrays = {name: getattr(self, f"{name}_") for name in ("first", "final", "lifts", "shares", "own", "mean")}
        return {**net, **ragged, **arrays, **self.words_.packed(), **self.told_.packed()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name in ("first", "final", "lifts", "shares", "own", "mean"):
            setattr(self, f"{name}_", state[name])
        self.words_, self.told_ = QueryWords.unpacked(state, self.config.query_words), ToldPairs.unpacked(state)
        self.own_words_, self.item_words_ = (
            Ragged(state[f"{name}/offsets"], state[f"{name}/values"]) for name in ("own_words", "item_words")
        )
        self.net_ = DualIntent(len(self.words_), self.config.dim, np.random.default_rng(0)).eval().requires_grad_(False)
        kept = {name.removeprefix("net/"): torch.from_numpy(a) for name, a in state.items() if name.startswith("net/")}
        self.net_.load_state_dict(kept)

    def _forget(self, numbers: np.ndarray) -> None:
        self.own_ = self.own_.copy()
        self.own_[numbers] = 0
        kept = np.arange(len(self.own_))
        kept[numbers] = -1
        self.own_words_ = self.own_words_.take(kept)
        self.told_ = self.told_.without(numbers)


@dataclass(frozen=True)
class _Asking:
    """Those who ask: what guesses need, ``e_u*``, the sum of their query's words, and whether there is a query."""

    people: People
    final: np.ndarray
    queries: np.ndarray
    search: np.ndarray


class _Trainer(nn.Module):
    """All that is learnt, and the loss of a batch."""

    def __init__(self, rows: SearchRows, lists: Lists, config: UDITSRConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.rows, self.lists, self.config = rows, lists, config
        self.people = nn.Parameter(glorot(rows.n_users, config.dim, rng))
        self.items = nn.Parameter(glorot(rows.n_items, config.dim, rng))
        self.net = DualIntent(rows.bags.shape[1], config.dim, rng)
        self.graph = TranslationGraph.of(rows.users, rows.items, rows.n_users, rows.n_items)
        self.guessed = slice(rows.n_told, len(rows))
        self.of_guessed = lists_of(lists.items, rows.items[self.guessed], self.net.n_words)

    def propagate(self) -> tuple[People, list[Tensor], Tensor]:
        """Return people as guesses need them, the layers of all nodes, and the demand of each row."""
        people = self.net.people(self.people, self.lists.people)
        users, items = self.rows.users[self.guessed], self.rows.items[self.guessed]
        guessed = self.net.guess(people.take(users), take(self.items, items), self.of_guessed)
        demands = torch.cat([self.rows.queries.times(self.net.words), guessed])
        carried = demands if self.config.translate else None
        return people, translate(torch.cat([self.people, self.items]), carried, self.graph, self.config.layers), demands

    def loss(self, batch: RowBatch, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch; rows without a negative add nothing."""
        people, layers, demands = self.propagate()
        final, c, total = readout(layers), self.config, len(batch)
        kept = batch.negatives >= 0
        rows, others = batch.rows[kept], batch.negatives[kept].astype(np.int64)
        order = np.argsort(rows >= self.rows.n_told, kind="stable")
        rows, others = rows[order], others[order]
        told = int((rows < self.rows.n_told).sum())
        users, items, n = self.rows.users[rows], self.rows.items[rows], self.rows.n_users
        wanted, who, had, not_had = take(demands, rows), take(final, users), take(final, n + items), take(final, n + others)
        feed = slice(told, None)
        lists = lists_of(self.lists.items, others[feed], self.net.n_words)
        instead = self.net.guess(people.take(users[feed]), take(self.items, others[feed]), lists)
        against = torch.cat([wanted[:told], instead])
        worse = self._scores(who, not_had, against, told) - self._scores(who, had, wanted, told)
        fit = functional.softplus(worse).sum() / max(1, total)
        contrast = translation_contrast(who, wanted, had, not_had, total)
        return fit + c.sg_weight * self._taught(rows[:told], wanted[:told], total) + c.cl_weight * contrast

    def _scores(self, people: Tensor, items: Tensor, demands: Tensor, told: int) -> Tensor:
        """Return scores of rows, of which the first ``told`` are searches."""
        parts = ((slice(told), True), (slice(told, None), False))
        return torch.cat([self.net.score(people[p], items[p], demands[p], search=search) for p, search in parts])

    def _taught(self, rows: np.ndarray, told: Tensor, total: int) -> Tensor:
        """Return how far guesses are from the queries of some told rows."""
        users, items = self.rows.users[rows], self.rows.items[rows]
        people = self.net.people(take(self.people, users), self.lists.people_left.take(rows))
        lists = lists_of(self.lists.items_left, rows, self.net.n_words)
        return supervision(self.net.guess(people, take(self.items, items), lists), told, total)


def _known(histories: Histories, item_counts: np.ndarray) -> Histories:
    """Return the events of histories with items that training knew."""
    kept = item_counts[histories.items] > 0
    lengths = np.bincount(histories.ragged.row_numbers[kept], minlength=len(histories))
    return Histories(offsets_of(lengths), histories.items[kept])


def _spans(n: int) -> list[slice]:
    """Cut ``n`` pairs into blocks."""
    return [slice(start, start + PAIRS) for start in range(0, n, PAIRS)]
