"""LLMRec: a sparse graph enriched by a language model: extra triples, attributes of items, profiles of people.

Before training an augmentor (:mod:`palate.recommend.llmrec_augment`) picks, of ten candidates that a base recommender proposes
to each person, the one liked most and the one liked least: the triples ``E_A``. It gives texts of attributes and profiles,
which become vectors ``σ_b`` along the links (:mod:`palate.recommend.llmrec_side`). Then::

    h_v = e_v + Σ_b w_b σ_b(v)/|σ_b(v)|       e = 1/(K+1) Σ_k Â^k E⁰       score(u, j) = <h_u, h_j>
    l_uij = softplus(<h_u, h_j> - <h_u, h_i>)     for B pairs of E, and the triples of ⌊w₃ B⌋ of their people
    L = 1/N Σ_{kept} l + reg/(2B) Σ |e⁰|² + w_r L_restore        N = M - ⌊w₄ M⌋ of the M triples of a batch

*Pruning.* Answers of a language model are noisy, and noise shows as large losses. ``prune_by="noise_dropped"`` leaves out the
``⌊w₄ M⌋`` largest losses of a batch, which is what the method is for. The published formula and code do the opposite, they keep
the largest (with w₄ = 0.71, the hardest 29%): that is ``"hardest_kept"``, mining of hard triples rather than denoising.

*Answers.* A person is answered from the history of the request. With the training history the vector is exactly the trained
one, up to rounding: ``e_u`` splits into shares of the history and what belongs to the person alone
(:mod:`palate.recommend.graph_base`), and every ``σ_b(u)`` is made of the history and nothing else. Somebody unseen lacks the
person's own part of ``e_u`` only; profiles, too, reach them, by the items that they had. No profile of theirs is asked for. An
item that nobody had is placed among the others by its texts: the catalogue's and the attributes told of it (``place_new``,
:mod:`palate.recommend.text_placed`).

Source: W. Wei et al., "LLMRec: Large Language Models with Graph Augmentation for Recommendation", WSDM 2024 (arXiv
2311.00423).
Differences: the encoder of links is LightGCN (the published code normalises one side and takes a softmax in its last layer);
L2 is the usual one (there its inverse, which drives lengths up); the decoder that restores learns, and has no activation at
its end, as what it restores has both signs (there its optimiser is never stepped); a mask lasts an epoch and leaves the stored
vectors whole (there masks add up). Candidates come from a base recommender fitted on the training pairs, LightGCN unless
another is named, and leave out what a person had (there: from a multimodal recommender, nothing left out). Images are not
read: a data set may hold vectors of them for all items, some or none, and the fit is the same. Vectors of texts are TF-IDF's
unless another encoder is named. There are no ranking losses of single blocks, no penalty on their vectors and by default no
limit of the gradient (there it is applied before there is one). Restoring is on (there off by default). Pairs make a batch,
not people, and stopping looks at validation. w₁, w₃ and w₄ are small by default: pruning takes true pairs with large losses,
too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from palate.contracts.config import Config, With
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError
from palate.kernels.rows import sum_rows
from palate.language.encoder import encoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.managed import ManagedModel
from palate.language.models import open_model
from palate.language.texts import item_texts
from palate.nn.graph_views import Passes, Readout
from palate.nn.take import weighted_size
from palate.nn.triples import triple_bpr
from palate.recommend.graph_base import FreeVectors, GraphRecommender, Objective, PositivesConfig, Setting, Step
from palate.recommend.llmrec_augment import Augmentor, Base, LanguageAugmentor, RuleAugmentor, picked, propose
from palate.recommend.llmrec_side import Block, Links, Side, unit
from palate.recommend.shares import explain_by_shares, one_history
from palate.recommend.text_placed import placed_by_text
from palate.training.personal_loss import Pools
from palate.training.triples import Triples

Prune = Literal["noise_dropped", "hardest_kept"]


class LLMRecConfig(PositivesConfig):
    """Settings of LLMRec."""

    counts_with: ClassVar[Mapping[str, With]] = {
        **dict.fromkeys(
            ("language_model", "model_calls", "model_workers", "model_cache"), With("augmentor", ("language_model",))
        ),
        **dict.fromkeys(("base", "candidates", "share"), With("augmentor", ("rule", "language_model"))),
        "text_dim": With("encoder", ("tfidf",)),
    }

    layers: int = Field(2, gt=0, description="K, propagation steps")
    augmentor: Literal["rule", "language_model", "none"] = Field(
        "rule", description="who augments: a rule on the catalogue's texts, a language model, or nobody"
    )
    language_model: str = Field("", description="the language model, as palate.language.models.open_model names it")
    model_calls: int | None = Field(None, ge=0, description="calls of the language model, at most (none: no limit)")
    model_workers: int = Field(1, gt=0, description="calls of the language model under way at once")
    model_cache: str | None = Field(None, description="file where its answers are kept (none: the user's own)")
    base: Base = Field("lightgcn", description="recommender that proposes candidates, fitted on the training pairs")
    candidates: int = Field(10, ge=2, description="candidates of a person")
    share: float = Field(0.02, ge=0, le=1, description="w₃, augmented triples beside a pair of a batch")
    prune: float = Field(0.02, ge=0, lt=1, description="w₄, share of a batch's triples that is left out")
    prune_by: Prune = Field("noise_dropped", description="leave out the largest losses, or keep the largest (as published)")
    encoder: str = Field("tfidf", description="what makes vectors of texts: tfidf (fitted on them), or an encoder's name")
    text_dim: int = Field(64, gt=0, description="width of TF-IDF's vectors")
    text_weight: float = Field(0.05, ge=0, description="w₁ of the catalogue's texts")
    attribute_weight: float = Field(0.1, ge=0, description="w₁ of each attribute")
    profile_weight: float = Field(0.2, ge=0, description="w₁ of profiles")
    mask: float = Field(0.1, ge=0, lt=1, description="share of nodes whose attributes and profile an epoch hides")
    restore_weight: float = Field(0.1, ge=0, description="w_r, weight of restoring what was hidden")
    power: float = Field(2.0, ge=1, description="γ, exponent of the restoring loss")
    place_new: bool = Field(True, description="whether items that nobody had are placed by their texts")
    require_text: bool = Field(True, description="refuse items without texts (else learn from interactions alone)")

    @model_validator(mode="after")
    def _a_model_that_is_named(self) -> LLMRecConfig:
        if (self.augmentor == "language_model") != bool(self.language_model):
            raise ValueError("the augmentor 'language_model' and the setting language_model go together")
        return self


class LLMRec(GraphRecommender):
    """LightGCN on augmented data (see the module's text).

    Parameters
    ----------
    config, settings
        See :class:`LLMRecConfig`.
    augmentor
        Takes the place of the one that the settings name; it is needed by :meth:`fit` only, and not saved.

    Attributes
    ----------
    side_
        ``float32[blocks, n_items, d]``: what each item gives to those who had it, projected.
    side_weights_
        ``float32[blocks]``, ``w_b``.
    """

    name: ClassVar[str] = "llmrec"
    title: ClassVar[str] = "LLMRec"
    Settings = LLMRecConfig
    config: LLMRecConfig
    side_: np.ndarray
    side_weights_: np.ndarray
    _augmentor: Augmentor | None = None

    def __init__(self, config: Config | None = None, *, augmentor: Augmentor | str | None = None, **settings: Any) -> None:
        if isinstance(augmentor, Augmentor):
            self._augmentor = augmentor
        elif augmentor is not None:
            settings["augmentor"] = augmentor
        super().__init__(config, **settings)

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        setting, c = Setting.of(dataset, fitting), self.config
        with self._who() as augmentor:
            told = Told.of(dataset, augmentor, c, fitting)
        rng = fitting.rng(self.name, "side")
        side = Side(told.blocks, Links(setting.matrix), c.dim, c.mask if c.restore_weight else 0.0, c.power, rng)
        table = self._table(setting, (side,))
        objective = Augmented(table, setting, c, side, told.picks)
        return {**self._descend(setting, table, objective.loss, objective.batches), "augmentation": told.notes}

    @contextmanager
    def _who(self) -> Iterator[Augmentor | None]:
        """Yield who augments; a model that was opened for it is closed again."""
        c = self.config
        if self._augmentor is not None or c.augmentor == "none":
            yield self._augmentor
        elif c.augmentor == "rule":
            yield RuleAugmentor()
        else:
            cache = "default" if c.model_cache is None else c.model_cache
            with ManagedModel(open_model(c.language_model), cache=cache, max_calls=c.model_calls) as model:
                yield LanguageAugmentor(model, workers=c.model_workers)

    def _finish(self, table: FreeVectors, graph: Any, n_users: int) -> None:
        super()._finish(table, graph, n_users)
        side = next(part for part in table.additions if isinstance(part, Side))
        self.side_, self.side_weights_, added = side.answers()
        if side.blocks:
            self.item_vectors_ = self.item_vectors_ + added
        texts = [block.vectors for block in side.blocks if block.side == "items"]
        if self.config.place_new and texts:
            self.item_vectors_ = placed_by_text(self.item_vectors_, np.concatenate(texts, axis=1), self.item_counts_ > 0)

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (zero where the history says nothing)."""
        out = super().request_vectors(requests)
        seen, counts = requests.histories.ragged.distinct, self._known_items(requests)
        for weight, shares in zip(self.side_weights_, self.side_, strict=True):
            out += weight * unit(sum_rows(seen.offsets, seen.values, shares))
        out[counts == 0] = 0
        return out

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history, given the others: lengths are those of the whole history."""
        history = np.unique(one_history(self, request, item))
        history = history[self.item_counts_[history] > 0]
        offered = self.item_vectors_[item].astype(np.float64)
        shares = (self.shares_[history] @ offered) / np.sqrt(max(1, len(history)))
        for weight, own in zip(self.side_weights_, self.side_[:, history], strict=True):
            shares = shares + float(weight) * (own @ offered) / max(float(np.linalg.norm(own.sum(axis=0))), 1e-12)
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        return explain_by_shares(self, request, item, history, shares, "shares of the history", score=score)

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "side": self.side_, "side_weights": self.side_weights_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.side_, self.side_weights_ = state["side"], state["side_weights"]


class Told:
    """What an augmentor told of a data set.

    Attributes
    ----------
    picks
        ``int32[n_users, 2]``: liked and disliked, -1 where nothing was picked.
    blocks
        Vectors of texts.
    notes
        Figures of its quality, for the record of the fit.
    """

    def __init__(self, n_users: int) -> None:
        self.picks = np.full((n_users, 2), -1, np.int32)
        self.blocks: list[Block] = []
        self.notes: dict[str, Any] = {"augmentor": "none"}

    @classmethod
    def of(cls, dataset: Dataset, augmentor: Augmentor | None, config: LLMRecConfig, fitting: Fitting) -> Told:
        """Ask all that the settings need."""
        told, texts = cls(dataset.n_users), item_texts(dataset)
        known = any(text.strip() for text in texts)
        if not known and config.require_text:
            raise DataError(
                "no attribute says what an item is.",
                where="attributes of items",
                remedy="give items a title or categories, or set require_text=false to learn from interactions alone",
            )
        if augmentor is not None:
            told.notes["augmentor"] = augmentor.name
            if config.share > 0:
                told._pick(dataset, augmentor, config, fitting)
        if known:
            told._read(dataset, texts, augmentor, config, fitting)
        return told

    def _pick(self, dataset: Dataset, augmentor: Augmentor, config: LLMRecConfig, fitting: Fitting) -> None:
        offered = propose(dataset, config.base, config.candidates, seed=fitting.seed, progress=fitting.progress)
        found = picked(augmentor, dataset, offered, progress=fitting.progress)
        self.picks[offered.users, 0], self.picks[offered.users, 1] = found.liked, found.disliked
        some = found.liked >= 0
        rank = np.empty(dataset.n_items, np.int64)
        rank[np.argsort(-dataset.item_counts, kind="stable")] = np.arange(dataset.n_items)
        ranks = {
            f"median popularity rank of the {name}": float(np.median(rank[items[some]])) if some.any() else None
            for name, items in (("liked", found.liked), ("disliked", found.disliked))
        }
        self.notes |= {"base": config.base, "asked": len(offered), "picked": int(some.sum()), "refused": found.refused, **ranks}

    def _read(
        self, dataset: Dataset, texts: list[str], augmentor: Augmentor | None, config: LLMRecConfig, fitting: Fitting
    ) -> None:
        """Make blocks of all texts that count."""
        rows: list[tuple[str, str, str, Sequence[str], float]] = []
        if config.text_weight > 0:
            rows.append(("text", "text", "items", texts, config.text_weight))
        if augmentor is not None and config.attribute_weight > 0:
            attributes = augmentor.item_attributes(dataset, progress=fitting.progress)
            rows += [(name, "attributes", "items", own, config.attribute_weight) for name, own in attributes.items()]
        if augmentor is not None and config.profile_weight > 0:
            profiles = augmentor.user_profiles(dataset, progress=fitting.progress)
            rows.append(("profile", "profiles", "users", profiles, config.profile_weight))
        filled = {name: sum(map(bool, own)) / max(1, len(own)) for name, _, _, own, _ in rows}
        rows = [row for row in rows if any(text.strip() for text in row[3])]
        self.notes["filled"] = filled
        if not rows:
            return
        made = encoder(config.encoder) if config.encoder != "tfidf" else TfidfEncoder(dim=config.text_dim, seed=fitting.seed)
        if isinstance(made, TfidfEncoder):
            made.fit([text for row in rows for text in row[3]])
        for name, space, kind, own, weight in rows:
            if len(own) != {"items": dataset.n_items, "users": dataset.n_users}[kind]:
                raise ConfigError("an augmentor gives a text for each.", where=f"{name} of {kind}", value=len(own))
            vectors = made.encode(own, progress=fitting.progress)
            self.blocks.append(Block(name, space, kind, vectors, weight, masked=space != "text"))


class Augmented(Objective):
    """The loss of a batch of pairs and augmented triples (see the module's text)."""

    config: LLMRecConfig

    def __init__(self, table: FreeVectors, setting: Setting, config: LLMRecConfig, side: Side, picks: np.ndarray) -> None:
        super().__init__(table, setting, config, 0)
        self.side, self.picks = side, picks

    def joined(self, batch: Triples, rng: np.random.Generator) -> Triples:
        """Return the batch, and the triples of people of ``⌊w₃ B⌋`` of its pairs, drawn at random, where they have one."""
        count = int(self.config.share * len(batch))
        drawn = batch.users[rng.permutation(len(batch))[:count]] if count else batch.users[:0]
        drawn = drawn[self.picks[drawn, 0] >= 0]
        parts = (batch.users, drawn), (batch.positives, self.picks[drawn, 0]), (batch.negatives, self.picks[drawn, 1])
        return Triples(*(np.concatenate(part) for part in parts))

    @torch.no_grad()
    def final(self) -> Tensor:
        """Return the vectors that would answer now, with what texts add."""
        found, n = super().final(), self.setting.n_users
        return self.side.fused(found, self.side.projected(np.arange(n), np.arange(len(found) - n)))

    def loss(self, batch: Triples | Pools, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch."""
        batch = self.triples(batch)
        c, n = self.config, self.setting.n_users
        step = Step(batch, generator, n, c.layers, 0)
        whole = self.joined(batch, np.random.default_rng(step.seed()))
        kept = whole.negatives >= 0
        u, i, j = whole.users[kept], whole.positives[kept] + np.int64(n), whole.negatives[kept] + np.int64(n)
        counts = np.bincount(np.concatenate([u, i, j]), minlength=len(self.setting.graph))
        rows = self._rows(whole, counts)
        assert rows is not None
        step.layer0, step.graph = self.table.layer0(step), self.setting.graph
        first = Passes((step.mean, Readout.layer(0, c.layers)))
        vectors, free = step.propagate(passes=first, rows=rows)
        split = int(np.searchsorted(rows, n))
        people, items = rows[:split], rows[split:] - n
        projected = self.side.projected(people, items)
        final = self.side.fused(vectors.rows, projected)
        at = vectors.places
        fit = pruned_bpr(final, at(u), at(i), at(j), c.prune, c.prune_by) * (len(u) / max(1, len(whole)))
        size = weighted_size(free.rows, counts[rows].astype(np.float32))
        loss = fit + c.reg / (2 * max(1, len(whole))) * size
        restoring = self.side.restoring(people, items, projected)
        return loss if restoring is None else loss + c.restore_weight * restoring


def pruned_bpr(vectors: Tensor, u: np.ndarray, i: np.ndarray, j: np.ndarray, rate: float, by: Prune) -> Tensor:
    """Return the mean of ``softplus(<e_u, e_j> - <e_u, e_i>)`` over the triples that pruning keeps (rows of ``vectors``)."""
    if rate > 0:
        with torch.no_grad():
            a, b, c = (vectors.detach()[torch.from_numpy(rows).to(vectors.device)] for rows in (u, i, j))
            worse = (a * (c - b)).sum(1).cpu().numpy()
        rows = kept_triples(worse, rate, by)
        u, i, j = u[rows], i[rows], j[rows]
    return triple_bpr(vectors, u, i, j)


def kept_triples(losses: np.ndarray, rate: float, by: Prune) -> np.ndarray:
    """Return ``int64[N]``, ascending: which of ``M`` losses are kept, ``N = M - ⌊rate M⌋``; of equal ones the first.

    Parameters
    ----------
    losses
        Losses, or anything that rises with them.
    rate
        w₄.
    by
        ``noise_dropped`` keeps the smallest, ``hardest_kept`` the largest.
    """
    order = np.argsort(losses if by == "noise_dropped" else -losses, kind="stable")
    return np.sort(order[: len(losses) - int(rate * len(losses))])
