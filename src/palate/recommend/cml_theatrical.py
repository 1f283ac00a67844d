"""CML for theatrical releases: films are placed by what is written of them, so people can be found before anybody has gone.

    f(x) = to the ball( W_2 relu( W_1 text(x) + mean_{c in x} E_c + b ) + b_2 )        q_j = to the ball( f(x_j) + δ_j )

    p_u = Σ_{i in H_u} w_i q_i,   w_i ~ 2^{-age_i / half-life},  Σ w = 1        d(u, j) = |p_u - q_j|²        score = -d(u, j)

    hinge      mean_{(u,i)} ln(1 + I M / W) [m + d(u, i) - min_j d(u, j)]₊  +  λ_f mean_i |δ_i|²  +  λ_c Σ_{a≠b} C_ab²
    logistic   mean_{(u,i)} 1/(1+W) [ -ln σ(a - b d(u, i)) - Σ_j ln σ(b d(u, j) - a) ]  +  the same two terms

    P(u buys j) = g( σ( w_0 - w_1 √d(u, j) + w_2 ln(1 + frequency) - w_3 recency + w_4 |p_u| ) )

``text`` is TF-IDF and a truncated SVD, learnt on the films that train; ``E`` holds metadata such as genres; ``δ`` is what
people know of a film beyond its text, zero for one that nobody has seen. A person has no numbers beside the history, so
somebody unseen is answered as anybody else. In training the history beside a pair is what came strictly before it, never the
film itself. ``frequency`` counts films of the last year, ``recency`` days since the last one (both are the same for a pair and
its negatives, so only the head can learn them); ``|p_u|`` is small for people of many tastes, to whom all films look equally
far.

The newest films (``head_films``) stand aside when the metric is learnt: on the earlier ones the head is fitted, on the later
ones the monotone ``g``, with histories that end before them. :meth:`CMLTheatrical.audience` ranks people for films, in the
catalogue or not yet; :meth:`CMLTheatrical.probability` answers single pairs.

Source: M. Campo, JJ Espinoza, J. Rieger, A. Taliyan, "Collaborative Metric Learning Recommendation System: Application to
Theatrical Movie Releases", 2018, arXiv 1803.00202, in its style: details of network, loss and sampling are not published. The
hinge is that of C.-K. Hsieh et al., WWW 2017; mean, distance, frequency and recency in a logistic regression follow what the
same team published of its trailer system (arXiv 1807.04465).
Ours: writing Hsieh's ``λ_f |q - f|²`` as ``f + δ``, so that the hinge reaches ``f`` too (``δ`` begins at zero); squares in
the covariance term; ``|p_u|`` and ``g`` in the head. ``places``: ``"hybrid"``, ``"text"`` (``δ`` = 0), ``"free"`` (``f`` = 0:
plain CML, whose new films lie farther than anything). Texts are read as they are given: words of a franchise in titles tell
that films belong together, which the claim shows without them as well. A film counts once a person, however many tickets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.errors import DataError
from palate.kernels.inner import topk_inner
from palate.nn import losses
from palate.nn.adam import Adam
from palate.nn.dropout import Dropout
from palate.nn.release_space import ReleaseSpace
from palate.recommend.cml import BEYOND, _asking, hinge
from palate.recommend.release_audience import AudienceRecommender
from palate.recommend.shares import explain_by_shares, one_history
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.item_description import Description, Inputs
from palate.training.loop import fit_module
from palate.training.purchase_head import PurchaseHead
from palate.training.release_pairs import (
    ReleaseBatch,
    ReleasePairs,
    first_events,
    kept_events,
    recency_weights,
    weighted_means,
)
from palate.training.triples import Triples
from palate.training.validation import validator


class CMLTheatricalConfig(TrainConfig):
    """Settings of CML for theatrical releases."""

    epochs: int = Field(15, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="pairs a batch")
    lr: float = Field(2e-3, gt=0, description="step size of Adam")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the space")
    places: Literal["hybrid", "text", "free"] = Field("hybrid", description="what places a film: text and own, text, own")
    loss: Literal["hinge", "logistic"] = Field("hinge", description="metric learning, or the probability end to end")
    margin: float = Field(1.0, gt=0, description="m of the hinge, in squared distance")
    n_negatives: int = Field(20, gt=0, description="W, films not seen that are drawn for each pair")
    weeks: float = Field(0.0, ge=0, description="negatives come from films with events in the same weeks (0: from all)")
    history: Literal["before", "others"] = Field("before", description="what stands for a person beside a training pair")
    max_history: int = Field(50, gt=0, description="most films of a history in training (the last, or draws)")
    half_life: float = Field(0.0, ge=0, description="days after which a film counts half in a history (0: all alike)")
    feature_weight: float = Field(0.1, ge=0, description="λ_f, weight of |δ|²")
    covariance: float = Field(0.0, ge=0, description="λ_c, weight of squared covariances between dimensions")
    texts: tuple[str, ...] | None = Field(None, description="attributes that are read as text (none named: the usual ones)")
    metadata: tuple[str, ...] | None = Field(None, description="other attributes (none named: those with repeated values)")
    require_text: bool = Field(
        True, description="whether data that tell nothing of films are refused (else films lie where people put them)"
    )
    text_dim: int = Field(128, gt=0, description="width of the text vectors")
    hidden: int = Field(128, gt=0, description="width of the hidden layer of f")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the hidden layer left out in training")
    head_films: float = Field(0.1, ge=0, lt=1, description="share of films, the newest, on which the head is fitted")
    release: str | None = Field(None, description="attribute with the release (none: a film's first event)")
    head_facts: tuple[Literal["distance", "frequency", "recency", "norm"], ...] = Field(
        ("distance", "frequency", "recency", "norm"), description="what the head is told of a pair"
    )
    head_people: int = Field(2000, gt=0, description="people without the film who are drawn for each film of the head")


class CMLTheatrical(AudienceRecommender):
    """Collaborative metric learning with films placed by text (see the module's text)."""

    name: ClassVar[str] = "cml_theatrical"
    Settings = CMLTheatricalConfig
    config: CMLTheatricalConfig

    item_vectors_: np.ndarray  # float32[n_items, d + 2]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c, had = self.config, first_events(dataset.histories)
        held, order = self._newest(had, fitting)
        trained = (dataset.item_counts > 0) & ~held
        self.description_ = Description.learn(
            dataset.items,
            trained,
            c.texts,
            c.metadata,
            c.text_dim,
            use=c.places != "free",
            require=c.require_text or c.places == "text",
            where=self.name,
        )
        inputs = self.description_.inputs(dataset.items.attributes, dataset.n_items)
        self.space_ = ReleaseSpace(
            self.description_.sizes,
            dataset.n_items if c.places != "text" else 0,
            c.dim,
            c.hidden,
            fitting.rng("cml", "weights"),
        ).to(usable_device(fitting.device))
        train = kept_events(had, np.flatnonzero(trained[had.items]))
        pairs = ReleasePairs(
            train,
            dataset.n_items,
            batch_size=c.batch_size,
            form=c.history,
            most=c.max_history,
            half_life=c.half_life,
            n_negatives=c.n_negatives,
            window=7 * c.weeks,
            allowed=trained,
        )
        self.head_, self.clock_ = None, np.array([0.0 if had.times is None else had.times.max(initial=0) + 1, 0.0])

        def finish() -> None:
            known = self.description_.known(inputs)
            self.placed_ = known | (trained if c.places != "text" else np.zeros_like(trained))
            self._lay_out(self.space_.answer(inputs, trained))

        learnt = [p for p in self.space_.parameters() if p.numel()]
        on_cpu = learnt[0].device.type == "cpu"
        record = fit_module(
            self.space_,
            batches=pairs.epoch,
            loss=lambda batch, generator: objective(self.space_, inputs, batch, c, generator),
            config=c,
            fitting=fitting,
            title="CML for releases",
            evaluate=validator(self, fitting.validation, before=finish),
            optimizer=(Adam if on_cpu else torch.optim.AdamW)(learnt, lr=c.lr, weight_decay=c.weight_decay),
        )
        finish()
        return {**record.notes, **self._learn_head(had, held, order, fitting.rng("cml", "head"))}

    # -- the head -------------------------------------------------------------------------------

    def _newest(self, had: Histories, fitting: Fitting) -> tuple[np.ndarray, np.ndarray]:
        """Return ``bool[n_items]``, films that stand aside for the head, and ``float64[n_items]``, when they came.

        Where neither an attribute nor times say what is new, the order is drawn.
        """
        counts = np.bincount(had.items, minlength=len(self.items_))
        films = np.flatnonzero(counts)
        age = fitting.rng("cml", "newest").random(len(counts))
        if self.config.release is not None:
            column = self.items_.column(self.config.release)
            if column is None:
                raise DataError("the items have no such attribute.", where="release", value=self.config.release)
            try:
                age = np.nan_to_num(column.cast(pa.float64()).to_numpy().astype(float), nan=-np.inf)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError("the release must be a number.", where=self.config.release, value=str(error)[:80]) from None
        elif had.times is not None:
            first = np.full(len(counts), np.iinfo(np.int64).max)
            np.minimum.at(first, had.items, had.times)
            age = first.astype(float)
        films = films[np.argsort(age[films], kind="stable")]
        held = np.zeros(len(counts), bool)
        held[films[len(films) - int(self.config.head_films * len(films)) :]] = True
        return held, age

    @property
    def head_facts(self) -> tuple[str, ...]:
        """What the head is told of a pair."""
        return self.config.head_facts

    @property
    def half_life(self) -> float:
        """Days after which a film counts half in a person's mean (0: all alike)."""
        return self.config.half_life

    @property
    def head_people(self) -> int:
        """People without the film who are drawn for each film of the head."""
        return self.config.head_people

    # -- answers --------------------------------------------------------------------------------

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, dim]``: ``f`` of films that need not be in the catalogue (zero where nothing is known)."""
        self._check_fitted()
        inputs = self.description_.inputs(attributes, attributes.num_rows)
        places = self.space_.answer(inputs, np.zeros(attributes.num_rows, bool))
        return np.where(self.description_.known(inputs)[:, None], places, np.float32(0))

    def _lay_out(self, places: np.ndarray) -> None:
        self.places_ = np.where(self.placed_[:, None], places, np.float32(0))
        away = np.where(self.placed_, np.einsum("nd,nd->n", self.places_, self.places_), BEYOND).astype(np.float32)
        self.item_vectors_ = np.column_stack([self.places_, -away, np.ones(len(away), np.float32)]).astype(np.float32)

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d + 2]``, ``[q, -|q|², 1]``."""
        return self.item_vectors_

    def points(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``: where the person of each request stands."""
        return weighted_means(self._told(requests.histories), self.config.half_life, self.places_)

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d + 2]``, ``[2p, 1, -|p|²]`` (zero where the history holds nothing known)."""
        out = _asking(self.points(requests))
        out[~self._informed(requests)] = 0
        return out

    def _informed(self, requests: Requests) -> np.ndarray:
        return self._informed_by(requests.histories)

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` nearest films; a score is the negative squared distance."""
        return topk_inner(_asking(self.places_[items]), self.item_vectors_, k, own, items)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each film of the history in ``2 <p, q> - |p|² - |q|²``; the two squares are the rest."""
        one_history(self, request, item)
        told = self._told(request.histories)
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        weights = recency_weights(told.offsets, told.times, self.config.half_life).astype(np.float64)
        shares = 2 * weights * (self.places_[told.items].astype(np.float64) @ self.places_[item])
        return explain_by_shares(self, request, item, told.items, shares, "pull of the history", score=score)

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        head = {} if self.head_ is None else {f"head/{name}": array for name, array in self.head_.state().items()}
        net = {f"space/{name}": value.detach().cpu().numpy() for name, value in self.space_.state_dict().items()}
        described = {f"description/{name}": array for name, array in self.description_.state().items()}
        return {**head, **net, **described, "places": self.places_, "placed": self.placed_, "clock": self.clock_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        def part(prefix: str) -> dict[str, np.ndarray]:
            return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}

        head, weights = part("head/"), part("space/")
        self.head_ = PurchaseHead.of_state(head) if head else None
        self.description_ = Description.of_state(part("description/"))
        c, own = self.config, len(weights["own"])
        self.space_ = ReleaseSpace(self.description_.sizes, own, c.dim, c.hidden, np.random.default_rng(0))
        self.space_.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        self.placed_, self.clock_ = state["placed"], state["clock"]
        self._lay_out(state["places"])


def objective(
    space: ReleaseSpace, inputs: Inputs, batch: ReleaseBatch, config: CMLTheatricalConfig, generator: torch.Generator
) -> Tensor:
    """Return the objective of a batch; dropout draws from ``generator``."""
    c, points = config, space(inputs, Dropout(config.dropout, generator))
    device = points.device
    items, weights = torch.from_numpy(batch.history.values.astype(np.int64)), torch.from_numpy(batch.weights)
    starts = torch.from_numpy(batch.history.offsets[:-1].copy())
    people = functional.embedding_bag(
        items.to(device), points, starts.to(device), mode="sum", per_sample_weights=weights.to(device)
    )
    if c.loss == "hinge":
        rows = np.arange(len(batch), dtype=np.int32)
        total = hinge(people, points, Triples(rows, batch.positives, batch.negatives), c.margin)
    else:
        total = logistic(space, people, points, batch)
    if c.covariance:
        total = total + c.covariance * len(points) * losses.decorrelation(points)
    if len(space.own) and space.told and c.feature_weight:
        own = torch.from_numpy(np.unique(batch.positives).astype(np.int64)).to(device)
        total = total + c.feature_weight * space.own[own].square().sum(1).mean()
    return total


def logistic(space: ReleaseSpace, people: Tensor, points: Tensor, batch: ReleaseBatch) -> Tensor:
    """Return the cross-entropy of ``σ(a - b d)``, ``b`` > 0; rows without a negative are left out."""
    kept = torch.from_numpy(np.flatnonzero(batch.negatives[:, 0] >= 0)).to(points.device)
    if not len(kept):
        return points.sum() * 0
    i, j = (torch.from_numpy(a.astype(np.int64)).to(points.device)[kept] for a in (batch.positives, batch.negatives))
    p, b = people[kept], functional.softplus(space.slope[1])
    near, far = (p - points[i]).square().sum(1), (p[:, None, :] - points[j]).square().sum(2)
    return losses.bce(space.slope[0] - b * near, space.slope[0] - b * far)
