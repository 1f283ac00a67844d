"""SlateTS: a Bayesian recurrent model of what people click on slates, which explores by draws from its posterior.

    groups    μ_g ~ N(0, κ_μ² I),  σ_g ~ N(0, κ_σ² I)
    items     v_i ~ N(μ_g(i), max(|σ_g(i)|, .001)²)  (hier)      or  v_i = tanh(w_i),  w_i ~ N(0, κ_μ² I)  (flat)
    start     h_0 ~ N(0, κ_0² I)
    states    z_t from h_0 and the clicks before, by a unit without biases whose matrices are ~ N(0, κ_w²), or a simpler
              movement (:mod:`palate.nn.user_dynamics`); what isn't clicked moves nothing
    click     softmax over the items really shown, s_i = -‖z_t - v_i‖, and no click, b_L ~ N(0, 1) for a slate of L slots
              (likelihood=unicand: over the clicked item and random ones instead)

    learnt    q = Π N(m, s²) for all but h_0, whose mean and scale come from the person's clicks and the items' posteriors;
              max  E_q[ log p(clicks) ] / T - KL(q ‖ prior),    T = tempering
    rounds    items with linear movement; then the unit, with a fresh optimiser and the items as they are

    greedy    ranks by -‖z - v_i‖ at the means              thompson   shows the first k under one joint draw of everything
    in_slate  a fresh joint draw for every position         both by D draws: :mod:`palate.kernels.slate_draws`

Source: S. Eide, D. Leslie, A. Frigessi, "Dynamic Slate Recommendation with Gated Recurrent Units and Thompson Sampling", Data
Mining and Knowledge Discovery 36, 2022, arXiv 2104.15046.
Differences: (1) In-slate: the paper walks through the rankings of k draws rank by rank, and the chances of its slates have no
closed form. Here a position goes to the best of what is left under a fresh draw, among D draws made beforehand and with a small
even share ε of the pool, so that every logged propensity is exact given the draws and inverse weighting is unbiased for what
stays within the pool (the ``pool`` items of highest score at the means; ``smoothing=0`` leaves ε out). (2) The bound is paid
once an epoch: all divergences, of start states too, have the weight that the whole log gives them, and that of the items is
spread over the batches. (3) The spread that gives h_0 its scale is over real clicks alone, and counts the items' own variance,
so one click isn't certainty. Without clicks h_0 is the prior. (4) Empty places of a slate have the probability 0, not a low
score. (5) Never shown items stand exactly at their group's prior after fitting. (6) T = 0.1 and κ_0 = 2 by default; the
paper's best runs have T = 0.03 and κ_0 = .5. Below T = 1 posteriors are too sharp by the rules of probability (1/T times in
precision), and Thompson's noise shrinks with them; at T = 1 they predict worse, because the price of a start state for each
person outweighs what a few clicks tell. :meth:`posterior_scales` says how wide they are. (7) Adam has its usual betas (paper:
.1 and .1), a step of .02 (3e-4) and one draw a step (``particles``; 4); scores are not cut to [-100, 20].
``update`` learns nothing: a state moves with the clicks in a request's history, and posteriors move when :meth:`refit` (or
``fit``) is given the slates shown since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.contracts.fitted import FitRecord
from palate.contracts.model import Fitting
from palate.contracts.policy import Feedback, Policy, Slate
from palate.contracts.requests import Requests
from palate.contracts.shapes import check_distinct, check_rows, check_shape
from palate.data.dataset import Dataset
from palate.data.fingerprint import fingerprint
from palate.data.ragged import Ragged
from palate.data.slates import SlateLog
from palate.errors import DataError
from palate.explore.item_groups import item_groups
from palate.explore.slate_model import Priors, SlateModel, half_norms
from palate.kernels.inner import topk_inner
from palate.kernels.quantised import topk_among
from palate.kernels.slate_draws import draw_slates, slate_chances
from palate.nn.user_dynamics import Dynamics
from palate.progress import Progress, silent
from palate.runtime import generator
from palate.training.config import TrainConfig
from palate.training.loop import fit_module
from palate.training.slates import SlateBatch, SlateEpoch, SlateWindows

#: Values of items (of all draws) that a block of requests may take, and windows looked at together in validation.
BLOCK, WINDOWS = 2**22, 256


class SlateThompsonConfig(TrainConfig):
    """Settings of SlateTS."""

    epochs: int = Field(60, ge=0, description="passes over the log, both rounds together; with people held out, the most")
    update_epochs: int = Field(10, ge=0, description="passes of a refit, which begins from the posteriors learnt before")
    batch_size: int = Field(256, gt=0, description="people (windows of their events) of a batch")
    lr: float = Field(0.02, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="looks at people held out without improvement before a round ends (0 = never)")
    clip_norm: float = Field(100.0, ge=0, description="largest norm of the gradient (0 = no limit)")
    dim: int = Field(25, gt=0, description="length of item vectors and of states")
    max_len: int = Field(20, gt=0, description="most events of a person that share a start state, and clicks read of a history")
    dynamics: Dynamics = Field("gru", description="how states move with clicks")
    items: Literal["hier", "flat"] = Field("hier", description="prior of items: around their group, or one for all")
    likelihood: Literal["slate", "unicand"] = Field(
        "slate", description="clicks against what was shown, or against random items"
    )
    strategy: Literal["greedy", "thompson", "in_slate"] = Field("in_slate", description="how slates are chosen")
    group_by: str = Field("auto", description="item attribute that gives the groups (of a list, the first); auto: a category")
    tempering: float = Field(0.1, gt=0, description="T, divisor of the log likelihood; below 1 posteriors are sharper")
    max_scale: float = Field(10.0, gt=0.002, description="largest standard deviation of a posterior")
    prior_group: float = Field(2.0, gt=0, description="κ_μ: standard deviation of groups' means (flat: of items)")
    prior_spread: float = Field(1.0, gt=0, description="κ_σ: standard deviation of groups' spreads")
    prior_weights: float = Field(1.0, gt=0, description="κ_w: standard deviation of the unit's matrices")
    prior_start: float = Field(2.0, gt=0, description="κ_0: standard deviation of start states")
    particles: int = Field(1, gt=0, description="joint draws a step")
    first_round: float = Field(0.5, ge=0, le=1, description="share of epochs with linear movement (gru, linear_gru)")
    valid: float = Field(0.05, ge=0, lt=1, description="share of people held out to know when to stop (0 = none)")
    given: int = Field(5, ge=0, description="first events of people held out that are learnt from all the same")
    draws: int = Field(64, gt=0, description="D: joint draws of the posterior for a block of requests")
    smoothing: float = Field(1 / 65, ge=0, lt=1, description="ε: chance of an even draw from the pool at a position")
    pool: int = Field(1000, gt=0, description="items, best at the means, that draws choose from (at least as many as shown)")
    noise: float = Field(1.0, ge=0, description="factor of posterior standard deviations in choosing (0 = none)")


class SlateThompson(Policy):
    """Bayesian slates (see the module's text). It learns from the slates in ``impressions``; without any it is its prior.

    ``model_`` holds the posteriors, ``shown_`` (``int64[n_items]``) how often each item stood in a slate that was learnt from.
    """

    name: ClassVar[str] = "slate_thompson"
    can_update: ClassVar[bool] = False
    fixed_draws: ClassVar[bool] = False
    Settings = SlateThompsonConfig
    config: SlateThompsonConfig
    model_: SlateModel
    shown_: np.ndarray

    # -- learning -------------------------------------------------------------------------------

    def _begin(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        group, labels, column = item_groups(dataset.items, self.config.group_by)
        log = SlateLog.of(dataset)
        self.model_ = self._made(group, max(1, len(labels)), int(log.lengths.max(initial=2)) + 1)
        self.model_.reset(torch.Generator().manual_seed(int(fitting.rng("start").integers(2**62))))
        notes = self._learn(log, fitting, self.config.epochs)
        return {"groups": len(labels), "group_by": column, **notes}

    def refit(self, dataset: Dataset, *, seed: int = 0, progress: Progress = silent) -> SlateThompson:
        """Learn on with all slates known by now, from the posteriors as they are (``update_epochs``); return self.

        Raises
        ------
        DataError
            If the catalogue is another one.
        """
        self._check_fitted()
        if not dataset.items.ids == self.items_.ids:
            raise DataError("the catalogue has changed.", where="refit", value=dataset.n_items, remedy="fit it anew")
        fitting = Fitting(seed, progress=progress, data=dataset.fingerprint)
        notes = self._learn(SlateLog.of(dataset), fitting, self.config.update_epochs)
        refits = int(self.record_.notes.get("refits", 0)) + 1
        self.record_ = FitRecord(
            seed, self.record_.seconds, self.record_.data, {**self.record_.notes, **notes, "refits": refits}
        )
        return self

    def update(self, requests: Requests, feedback: Feedback) -> None:
        """Check the feedback; nothing is learnt from it here (see the module's text)."""
        self._check_fitted()
        check_shape(feedback.rewards, (len(requests), None), "rewards")
        shown = feedback.slate.items
        check_rows(shown < self.n_items, shown, "an item lies outside the catalogue.", "feedback.slate.items")

    def log_likelihood(self, dataset: Dataset, *, given: int = 0) -> np.ndarray:
        """Return ``float64`` log probabilities, at the posterior means, of what people clicked on a data set's slates.

        Parameters
        ----------
        given
            First events of each window of ``max_len`` that are not asked about; their clicks tell of the start state.
        """
        self._check_fitted()
        log = SlateLog.of(dataset)
        held = np.ones(len(log.windows(self.config.max_len)) - 1, bool)
        return self._likelihoods(SlateWindows(log, self.n_items, self.config.max_len, held=held, given=given))

    def posterior_scales(self) -> dict[str, float]:
        """Return how wide the posterior is: means of standard deviations, and the distance between items beside them."""
        self._check_fitted()
        return self.model_.scales(self.shown_ == 0)

    def _made(self, group: np.ndarray, n_groups: int, n_slots: int) -> SlateModel:
        c = self.config
        priors = Priors(c.prior_group, c.prior_spread, c.prior_weights, c.prior_start)
        return SlateModel(group, n_groups, n_slots, c.dim, priors, c.max_scale, c.items == "flat")

    def _learn(self, log: SlateLog, fitting: Fitting, epochs: int) -> dict[str, Any]:
        """Fit the posteriors in one round or two; return notes."""
        c = self.config
        self.__dict__.pop("_made_table", None)
        self.shown_ = np.bincount(log.items.values, minlength=self.n_items)
        windows = self._windows(log, fitting)
        notes: dict[str, Any] = {"slates": len(log), "windows": len(windows), "held out": len(windows.validation)}
        fitting = replace(fitting, data=fingerprint(log.person, log.items.offsets, log.items.values, log.clicked, fitting.data))
        rounds: list[tuple[Literal["all", "items", "people"], Dynamics, int]] = [("all", c.dynamics, epochs)]
        if c.dynamics in ("gru", "linear_gru"):
            first = round(epochs * c.first_round)
            rounds = [("items", "linear", first), ("people", c.dynamics, epochs - first)]
        for number, (part, kind, n) in enumerate(rounds, 1) if windows.n_learnt else ():
            notes[f"round {number}"] = self._round(windows, fitting, part, kind, n, number)
        self.model_.settle(np.flatnonzero(self.shown_ == 0))
        return notes

    def _round(
        self,
        windows: SlateWindows,
        fitting: Fitting,
        part: Literal["all", "items", "people"],
        kind: Dynamics,
        epochs: int,
        number: int,
    ) -> dict[str, Any]:
        c, folder = self.config, fitting.checkpoint
        if folder is not None:  # a round goes on only from one that began with the same posteriors
            start = [array for _, array in sorted(self._state().items())]
            fitting = replace(fitting, data=fingerprint(fitting.data, *start), checkpoint=folder / f"round-{number}")
        optimizer = torch.optim.Adam(self.model_.learn(part, kind), lr=c.lr)
        record = fit_module(
            self.model_,
            batches=partial(self._epoch, windows),
            loss=partial(self._loss, windows, part, kind),
            config=c.replace(epochs=epochs),
            fitting=fitting,
            title=f"SlateTS round {number}",
            evaluate=(lambda: self._look(windows, kind, fitting)) if len(windows.validation) else None,
            optimizer=optimizer,
            metric="valid_log_likelihood",
        )
        return record.notes

    def _windows(self, log: SlateLog, fitting: Fitting) -> SlateWindows:
        """Cut the log; hold out the later events of some people."""
        c = self.config
        offsets = log.windows(c.max_len)
        longer = np.flatnonzero(np.diff(offsets) > c.given)
        held = np.zeros(len(offsets) - 1, bool)
        held[fitting.rng("held out").permutation(longer)[: int(c.valid * len(longer))]] = True
        return SlateWindows(log, self.n_items, c.max_len, held=held, given=c.given)

    def _epoch(self, windows: SlateWindows, epoch: int, rng: np.random.Generator) -> SlateEpoch:
        return SlateEpoch(windows, self.config.batch_size, rng, random_items=self.config.likelihood == "unicand")

    def _loss(self, windows: SlateWindows, part: str, kind: Dynamics, batch: SlateBatch, generator: torch.Generator) -> Tensor:
        """Return the batch's share of the negative bound, an event (see the module's text)."""
        n_batches = -(-len(windows) // self.config.batch_size)
        total = self.model_.other_divergence(kind) / n_batches
        for _ in range(self.config.particles):
            found, start = self.model_.log_likelihood(batch, kind, generator)
            own = start - found.sum() / self.config.tempering
            if part != "people":
                own = own + self.model_.item_divergence(batch.share, generator)
            total = total + own / self.config.particles
        return total * n_batches / windows.n_learnt

    def _look(self, windows: SlateWindows, kind: Dynamics, fitting: Fitting) -> float:
        """Return the validation value: the mean of what is learnt, over events held out (random items are always the same)."""
        drawn = fitting.rng("validation") if self.config.likelihood == "unicand" else None
        return float(self._likelihoods(windows, kind, drawn).mean())

    @torch.no_grad()
    def _likelihoods(
        self, windows: SlateWindows, kind: Dynamics | None = None, random_items: np.random.Generator | None = None
    ) -> np.ndarray:
        """Return log probabilities of the events held out, at the means."""
        which = windows.validation
        nothing, found = torch.Generator(), [np.empty(0)]
        for start in range(0, len(which), WINDOWS):
            share = np.empty(0, np.int64)
            batch = windows.batch(which[start : start + WINDOWS], share, held_out=True, random_items=random_items)
            value, _ = self.model_.log_likelihood(batch, kind or self.config.dynamics, nothing, noise=0)
            found.append(value.double().numpy())
        return np.concatenate(found)

    # -- choosing -------------------------------------------------------------------------------

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        """Choose slates; a block of requests shares its joint draws, each request has chances of its own."""
        self._check(requests)
        if k < 1:
            raise DataError("k must be at least 1.", where="act", value=k)
        items, chances, start = np.full((len(requests), k), -1, np.int32), np.ones((len(requests), k)), 0
        for block in self._blocks(requests):
            own = slice(start, start + len(block))
            values, pool = self._values(block, k, rng)
            uniforms = rng.random((len(block), k))
            places, chances[own] = draw_slates(values, pool >= 0, self._epsilon, uniforms, joint=self._joint)
            items[own] = np.where(places >= 0, np.take_along_axis(pool, np.maximum(places, 0), 1), -1)
            start += len(block)
        return Slate(items, chances)

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: chances of these slates, position by position, by draws that the seed of the fit fixes.

        Those of greedy are exact. Others are shares of ``draws`` joint draws: exact given these, an estimate over all.
        """
        self._check(requests)
        items = np.asarray(items, np.int32)
        check_shape(items, (len(requests), None), "items")
        check_distinct(items, "items")
        out, start, rng = np.zeros(items.shape), 0, generator(self.record_.seed, self.name, "propensities")
        for block in self._blocks(requests):
            own = slice(start, start + len(block))
            values, pool = self._values(block, items.shape[1], rng)
            places = _places(items[own], pool)
            values = np.concatenate([values, np.zeros((*values.shape[:2], 1))], axis=2)  # what isn't in the pool: never
            pool = np.concatenate([pool, np.full((len(pool), 1), -1, np.int32)], axis=1)
            out[own] = slate_chances(values, pool >= 0, self._epsilon, places, joint=self._joint)
            start += len(block)
        return out

    @property
    def _epsilon(self) -> float:
        return 0.0 if self.config.strategy == "greedy" else self.config.smoothing

    @property
    def _joint(self) -> bool:
        return self.config.strategy == "thompson"

    def _blocks(self, requests: Requests) -> Iterator[Requests]:
        each = 1 if self.config.strategy == "greedy" else self.config.draws * min(self.config.pool, self.n_items)
        yield from requests.blocks(int(np.clip(BLOCK // each, 1, 1024))) if len(requests) else ()

    def _values(self, requests: Requests, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return values ``[n or 1, D, p]`` and the pool ``int32[n, p]`` (-1 last) of one block."""
        c = self.config
        clicks, lengths = self._clicks(requests)
        torch_rng = torch.Generator().manual_seed(int(rng.integers(2**62)))
        pool = self._pool(requests, clicks, lengths, k if c.strategy == "greedy" else max(c.pool, k))
        if c.strategy == "greedy" or c.noise == 0:  # the order of the pool
            return -np.arange(pool.shape[1], dtype=float)[None, None], pool
        return self.model_.values(pool, clicks, lengths, c.dynamics, c.draws, torch_rng, c.noise), pool

    @property
    def _table(self) -> np.ndarray:
        """``float32[n_items, d + 1]``: ``[v, -‖v‖²/2]`` at the means, whose product with ``[z, 1]`` ranks; made once."""
        if "_made_table" not in self.__dict__:
            with torch.no_grad():
                vectors = self.model_.vectors(torch.Generator(), noise=0)
                self._made_table = torch.cat([vectors, -half_norms(vectors)[:, None]], 1).numpy()
        return self._made_table

    def _clicks(self, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
        """Return the last clicks of each history ``int64[n, c]`` (0 beyond its end), and how many there are."""
        histories = requests.histories
        lengths = np.minimum(histories.lengths, self.config.max_len)
        width = max(1, int(lengths.max(initial=0)))
        inside = np.arange(width) < lengths[:, None]
        table = np.zeros((len(lengths), width), np.int64)
        table[inside] = histories.items[(histories.offsets[1:, None] - lengths[:, None] + np.arange(width))[inside]]
        return table, lengths.astype(np.int64)

    @torch.no_grad()
    def _pool(self, requests: Requests, clicks: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        """Return ``int32[n, p]``: the items of highest score at the posterior means, of those that may be shown; -1 last."""
        rows, nothing = np.unique(clicks), torch.Generator()
        vectors, places = self.model_.vectors(nothing, torch.from_numpy(rows), noise=0), np.searchsorted(rows, clicks)
        states = self.model_.states(rows, vectors, places, lengths, self.config.dynamics, nothing, 0.0).numpy()
        queries, table = np.concatenate([states, np.ones((len(states), 1), np.float32)], axis=1), self._table
        size, out = min(size, self.n_items), requests.exclude
        gone = (None, None) if out is None else (out.offsets, out.values)
        if requests.candidates is None:
            return topk_inner(queries, table, size, *gone)[0]
        among = _distinct(requests.candidates)
        return topk_among(queries, table, among, min(size, among.shape[1]), *gone)[0]

    def _check(self, requests: Requests) -> None:
        """Refuse requests that name items outside the catalogue."""
        self._check_fitted()
        rows = {"histories": requests.histories.ragged, "exclude": requests.exclude, "candidates": requests.candidates}
        for name, items in rows.items():
            if items is not None and len(items.values):
                low, high = int(items.values.min()), int(items.values.max())
                if low < 0 or high >= self.n_items:
                    what = f"an item number lies outside the catalogue of {self.n_items:,}."
                    raise DataError(what, where=f"requests.{name}", value=low if low < 0 else high)

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        return {"shown": self.shown_, **{name: t.numpy().copy() for name, t in self.model_.state_dict().items()}}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        arrays = dict(state)
        self.__dict__.pop("_made_table", None)
        self.shown_ = arrays.pop("shown")
        model = self._made(arrays["group"], len(arrays["group_mean.mean"]), len(arrays["no_click.mean"]))
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        self.model_ = model.eval()


def _places(items: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return ``int32[n, k]`` places of items in their pools; -1 for -1, and the place behind the pool for others."""
    found = np.full(items.shape, pool.shape[1], np.int32)
    for at in range(items.shape[1]):
        same = pool == items[:, at, None]
        found[:, at] = np.where(same.any(1), same.argmax(1), pool.shape[1])
    return np.where(items < 0, np.int32(-1), found)


def _distinct(candidates: Ragged) -> np.ndarray:
    """Return candidates as ``int32[n, m]``, each once, -1 last."""
    rows = candidates.distinct
    table = np.full((len(rows), max(1, int(rows.lengths.max(initial=0)))), -1, np.int32)
    table[np.arange(table.shape[1]) < rows.lengths[:, None]] = rows.values
    return table
