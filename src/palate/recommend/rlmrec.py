"""RLMRec: vectors of a graph recommender that share information with texts of what items are and what people like.

A profile of every item, then of every person (:mod:`palate.language.profiles`), becomes a frozen vector ``s_v``; beside the
loss of the backbone stands a lower bound of the mutual information between ``s_v`` and the final vector ``e_v``::

    con:  L = L_R + λ [ NCE(e_u, g(s_u)) + NCE(e_i, g(s_i)) + NCE(e_j, g(s_j)) ]     over the triples (u, i, j) of the batch
    gen:  L = L_R + λ NCE(p(e_v), s_v),   v in V_m: nodes whose layer 0 is one learnt vector in this step

    NCE(x, y) = -1/n Σ_r ln( exp(cos(x_r, y_r)/τ) / Σ_s exp(cos(x_r, y_s)/τ) )

with ``g`` from texts to vectors and ``p`` back: two linear layers with LeakyReLU between, as wide in the middle as the mean of
their ends. In ``gen`` the backbone's loss, too, sees the masked propagation. Answers come from the clean propagation and need
no text: same shape and cost as the backbone's (:mod:`palate.recommend.graph_base`). An item that nobody had is placed among the
others by its text (``place_new``, :mod:`palate.recommend.text_placed`).

Source: X. Ren et al., "Representation Learning with Large Language Models for Recommendation", WWW 2024, arXiv 2310.15950.
Whom a row is told apart from: the published code sums over *all* people for people, and over the rows of the batch, repeats
included, for items; ``denominator="published"`` does that (all people's texts pass ``g`` in every step; scores are made in
blocks). By default each of the three terms runs over the distinct people (items) of the batch, which is cheaper, treats people
and items alike and takes no item for its own negative. ``λ`` weighs sums of means in both, as there.
Differences: of the six backbones LightGCN, SGL and SimGCL are here (XSimGCL is ours; GCCF, DCCF and AutoCF are not); layers
are averaged, not summed; no links are dropped with ``lightgcn``; only rows with a text take part, in sums and masks (the
record's notes count the others), and only nodes with events are masked; the generative term has no 1e-8 inside its logarithm;
the penalty is on layer 0 of the batch's rows, the networks ``g`` and ``p`` are free of it. Templates write the profiles unless
``profile_model`` names a language model, which writes the profile alone, without reasons before it; ``profile_column`` names
an attribute whose texts stand in for ours (they may have been written from what the test part asks for: our own never are);
wide text vectors are cut to their ``text_dim`` main directions.
Without weight the fit is that of the backbone to the bit; of ``lightgcn`` it is so but for rounding, as
:mod:`palate.recommend.lightgcn` by itself takes loss, penalty and slopes in one pass, which adds in another order.
``control="shuffled"`` deals the texts to other rows and ``"random"`` replaces their vectors by noise: what then remains of a
gain is not due to content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.errors import DataError, nearest
from palate.language.encoder import encoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.managed import ManagedModel
from palate.language.models import open_model
from palate.language.profile_sentences import ProfileForm
from palate.language.profiles import Profiles, Writer, item_profiles, user_profiles, with_given
from palate.nn.contrast import contrast
from palate.nn.graph import Adjacency
from palate.nn.take import take
from palate.recommend.graph_base import FreeVectors, GraphRecommender, Part, PositivesConfig, Setting, Step
from palate.recommend.lightgcn import LightGCN
from palate.recommend.sgl import SGL
from palate.recommend.simgcl import SimGCL
from palate.recommend.text_placed import placed_by_text
from palate.recommend.xsimgcl import XSimGCL
from palate.training.triples import Triples

_BACKBONES: dict[str, type[GraphRecommender]] = {"lightgcn": LightGCN, "sgl": SGL, "simgcl": SimGCL, "xsimgcl": XSimGCL}
#: Settings that go to the backbone under the name it has for them.
_OWN = {"cl_weight": "cl_weight", "cl_temperature": "temperature", "eps": "eps"}


class RLMRecConfig(PositivesConfig):
    """Settings of RLMRec."""

    counts_with: ClassVar[Mapping[str, With]] = {
        "weight": With("mode", unless=("none",)),
        "mask_share": With("mode", ("gen",)),
        "denominator": With("mode", ("con",)),
        **{f"profile_{name}": With("profile_model") for name in ("tokens", "calls", "workers", "cache")},
    }

    mode: Literal["con", "gen", "none"] = Field("con", description="text drawn to vectors, text rebuilt from them, or no text")
    backbone: Literal["lightgcn", "sgl", "simgcl", "xsimgcl"] = Field("lightgcn", description="the graph recommender")
    weight: float = Field(0.05, ge=0, description="λ, weight of the alignment (0 leaves it out)")
    temperature: float = Field(0.2, gt=0, description="τ, cosines of vectors and texts are divided by this")
    mask_share: float = Field(0.15, gt=0, le=1, description="share of the nodes that are masked in a step")
    denominator: Literal["batch", "published"] = Field("batch", description="whom a row is told apart from")
    contrast_size: int = Field(
        2048, gt=0, description="more rows than these are told apart in random groups of at most so many"
    )
    encoder: str = Field("tfidf", description="name or folder of the text encoder")
    text_dim: int = Field(128, gt=0, description="width of the text vectors; wider ones are cut to their main directions")
    profile_model: str | None = Field(None, description="language model that writes profiles (none: templates)")
    profile_column: str | None = Field(
        None, description="attribute of people or items that holds profiles; they stand in for ours (none: not used)"
    )
    profile_tokens: int = Field(160, gt=0, description="tokens of a profile that a model writes, at most")
    profile_calls: int | None = Field(None, ge=0, description="calls of the model, at most (none: no limit)")
    profile_workers: int = Field(1, gt=0, description="calls of the model under way at once")
    profile_cache: str | None = Field(None, description="file where answers of the model are kept (none: the user's own)")
    place_new: bool = Field(True, description="whether items that nobody had are placed by their texts")
    control: Literal["none", "shuffled", "random"] = Field("none", description="texts of other rows, or noise, as a control")
    cl_weight: float | None = Field(None, ge=0, description="weight of the backbone's own contrast (none: as it has it)")
    cl_temperature: float | None = Field(None, gt=0, description="τ of the backbone's own contrast (none: as it has it)")
    eps: float | None = Field(None, ge=0, description="length of the backbone's noise (none: as it has it)")

    @model_validator(mode="after")
    def _settings_that_the_backbone_has(self) -> RLMRecConfig:
        lacking = {"lightgcn": _OWN.keys(), "sgl": {"eps"}}.get(self.backbone, set())
        for name in lacking:
            if getattr(self, name) is not None:
                raise ValueError(f"the backbone {self.backbone} has no {name}")
        return self


class RLMRec(GraphRecommender):
    """A graph recommender aligned with profiles (see the module's text).

    Attributes
    ----------
    user_texts_, item_texts_
        ``float32[n_users, text_dim]`` and ``float32[n_items, text_dim]``: the frozen vectors of the profiles, of length one,
        zero where there is none; no columns where nothing was aligned. Answers don't use them.
    """

    name: ClassVar[str] = "rlmrec"
    title: ClassVar[str] = "RLMRec"
    Settings = RLMRecConfig
    config: RLMRecConfig
    user_texts_: np.ndarray
    item_texts_: np.ndarray

    @cached_property
    def _backbone(self) -> GraphRecommender:
        """The backbone, unfitted: its parts and lowest layer are used."""
        c = self.config
        kind = _BACKBONES[c.backbone]
        given = {name: getattr(c, name) for name in PositivesConfig.model_fields}
        own = {theirs: getattr(c, ours) for ours, theirs in _OWN.items() if getattr(c, ours) is not None}
        return kind(**given, **own)

    @property
    def _lowest(self) -> int:
        return self._backbone._lowest

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        self.user_texts_, self.item_texts_ = (np.zeros((n, 0), np.float32) for n in (dataset.n_users, dataset.n_items))
        told: dict[str, Any] = {"alignment": "none"}
        if c.mode != "none" and c.weight and dataset.n_items < 2:
            told = {"alignment": "none: a single item has nothing to be told apart from"}
        elif c.mode != "none" and c.weight:
            people, items = profiles(dataset, fitting, c)
            self.user_texts_, self.item_texts_ = text_vectors(people, items, c)
            told = {"alignment": c.mode, "control": c.control, "encoder": c.encoder}
            for what, rows, vectors in (("people", people, self.user_texts_), ("items", items, self.item_texts_)):
                told[f"profiles of {what}"] = {**rows.counts, "left out": int((~vectors.any(axis=1)).sum())}
            if c.control != "none":
                rng = fitting.rng(self.name, "control")
                self.user_texts_, self.item_texts_ = (
                    controlled(vectors, c.control, rng) for vectors in (self.user_texts_, self.item_texts_)
                )
        return {**super()._fit(dataset, fitting), **told}

    def _parts(self, setting: Setting) -> Sequence[Part]:
        c, own = self.config, self._backbone._parts(setting)
        if not self.user_texts_.shape[1]:
            return own
        texts = np.concatenate([self.user_texts_, self.item_texts_])
        rng = setting.fitting.rng(self.name, "networks")
        if c.mode == "con":
            return (*own, TextContrast(texts, setting.n_users, c, rng))
        return (*own, TextRebuilt(texts, np.diff(setting.graph.offsets) > 0, c, rng))

    def _finish(self, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        super()._finish(table, graph, n_users)
        if self.config.place_new:
            self.item_vectors_ = placed_by_text(self.item_vectors_, self.item_texts_, self.item_counts_ > 0)

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "user_texts": self.user_texts_, "item_texts": self.item_texts_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.user_texts_, self.item_texts_ = state["user_texts"], state["item_texts"]

    def _forget(self, numbers: np.ndarray) -> None:
        super()._forget(numbers)
        self.user_texts_ = self.user_texts_.copy()
        self.user_texts_[numbers] = 0


def profiles(dataset: Dataset, fitting: Fitting, c: RLMRecConfig) -> tuple[Profiles, Profiles]:
    """Return profiles of people and of items; those of ``profile_column`` stand in for ours.

    Raises
    ------
    DataError
        If neither people nor items have that column.
    """
    people, items = written(dataset, fitting, c)
    if c.profile_column is None:
        return people, items
    found = with_given(people, dataset.users, c.profile_column), with_given(items, dataset.items, c.profile_column)
    if all(after is before for after, before in zip(found, (people, items), strict=True)):
        tables = [part.attributes for part in (dataset.users, dataset.items)]
        held = {name for table in tables if table is not None for name in table.column_names}
        raise DataError(
            "neither people nor items have the column of profiles.",
            where="profile_column",
            value=c.profile_column,
            remedy=nearest(c.profile_column, sorted(held)) if held else "leave it out",
        )
    return found


def written(dataset: Dataset, fitting: Fitting, c: RLMRecConfig) -> tuple[Profiles, Profiles]:
    """Return profiles that we write: items first, then people from the histories of the training data alone."""
    form = ProfileForm()
    if c.profile_model is None:
        items = item_profiles(dataset, form)
        return user_profiles(dataset, items, form), items
    cache = "default" if c.profile_cache is None else c.profile_cache
    with ManagedModel(open_model(c.profile_model), cache=cache, max_calls=c.profile_calls) as model:
        writer = Writer(model, max_tokens=c.profile_tokens, workers=c.profile_workers)
        items = item_profiles(dataset, form, writer=writer, progress=fitting.progress)
        return user_profiles(dataset, items, form, writer=writer, progress=fitting.progress), items


def text_vectors(people: Profiles, items: Profiles, c: RLMRecConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return ``float32[n, text_dim]`` vectors of people's and of items' profiles, of length one or zero.

    Raises
    ------
    DataError
        If fewer than two people or items have a text that the encoder knows anything of.
    """
    texts = [*people.texts, *items.texts]
    if c.encoder == "tfidf":
        found = TfidfEncoder(dim=c.text_dim).fit(texts).encode(texts)
    else:
        found = main_directions(encoder(c.encoder).encode(texts), c.text_dim)
    vectors = found[: len(people)], found[len(people) :]
    for what, profiles, rows in zip(("people", "items"), (people, items), vectors, strict=True):
        if (known := int(rows.any(axis=1).sum())) < 2:
            why, remedy = _why_too_few(what, int(profiles.known.sum()), items)
            raise DataError(
                f"texts can't be aligned: {why}.",
                where="profiles",
                value=f"{known} of {len(rows)}",
                remedy=f'{remedy}, or fit with mode="none"',
            )
    return vectors


def _why_too_few(what: str, written: int, items: Profiles) -> tuple[str, str]:
    """Return why too few people or items have a vector, of whom so many have a text, and what helps."""
    if written > 1:
        return f"too few {what} have one with a word that the encoder knows", "give items texts in words"
    if what == "people" and int(items.known.sum()) > 1:
        alike = "all items have the same text, and " if len({text for text in items.texts if text}) == 1 else ""
        why = f"{alike}too few people have one (words that stand in every item's text say nothing of a person)"
        return why, "give items titles, or texts that tell them apart"
    return f"too few {what} have one", "give items a text"


def main_directions(x: np.ndarray, width: int) -> np.ndarray:
    """Return rows projected on the ``width`` directions of most size (truncated SVD), of length one or zero."""
    if x.shape[1] <= width:
        return x
    _, directions = np.linalg.eigh(x.T.astype(np.float64) @ x)
    kept = directions[:, ::-1][:, :width]
    signs = np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(width)])
    found = x @ (kept * signs).astype(np.float32)
    out: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
    return out


def controlled(vectors: np.ndarray, control: str, rng: np.random.Generator) -> np.ndarray:
    """Return vectors dealt to other rows (``"shuffled"``), or random ones of length one; rows without a text stay so."""
    known, out = np.flatnonzero(vectors.any(axis=1)), np.zeros_like(vectors)
    if control == "shuffled":
        out[known] = vectors[rng.permutation(known)]
    else:
        drawn = rng.standard_normal((len(known), vectors.shape[1]), np.float32)
        out[known] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return out


class _Texts(Part):
    """What both forms share: the texts of all nodes, which nodes have one, and a network.

    Parameters
    ----------
    texts
        ``float32[nodes, text_dim]``, zero rows where there is none.
    """

    texts: Tensor

    def __init__(self, texts: np.ndarray, widths: tuple[int, int], config: RLMRecConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.config = config
        self.known = np.asarray(texts.any(axis=1), bool)
        self.register_buffer("texts", torch.from_numpy(texts), persistent=False)
        first, last = widths
        self.network = nn.Sequential(
            _linear(first, (first + last) // 2, rng), nn.LeakyReLU(), _linear((first + last) // 2, last, rng)
        )

    def _texts_of(self, nodes: np.ndarray) -> Tensor:
        return self.texts[torch.from_numpy(np.asarray(nodes, np.int64)).to(self.texts.device)]


class TextContrast(_Texts):
    """``con``: texts pass the network, and meet the vectors of the batch's people and items."""

    def __init__(self, texts: np.ndarray, n_users: int, config: RLMRecConfig, rng: np.random.Generator) -> None:
        super().__init__(texts, (texts.shape[1], config.dim), config, rng)
        self.all_users = np.flatnonzero(self.known[:n_users])

    def loss(self, step: Step) -> Tensor:
        """Return the three terms."""
        n, batch = np.int64(step.n_users), step.batch
        # A pair without a negative is left out, as it is in the backbone's loss.
        kept = batch.negatives >= 0
        kinds = [batch.users[kept].astype(np.int64), batch.positives[kept] + n, batch.negatives[kept] + n]
        kinds = [nodes[self.known[nodes]] for nodes in kinds]
        published = self.config.denominator == "published"
        if not published:
            kinds = [self._distinct(nodes, step) for nodes in kinds]
        nodes = np.unique(np.concatenate([*kinds, self.all_users] if published else kinds))
        told: Tensor = self.network(self._texts_of(nodes))
        total = step.layer0.new_zeros(())
        for kind, own in enumerate(kinds):
            others, targets = own, None
            if published and kind == 0:
                others = self.all_users
                targets = torch.from_numpy(np.searchsorted(others, own)).to(told.device)
            y = take(told, np.searchsorted(nodes, others))
            group = None if published else self.config.contrast_size
            total = total + contrast(step.vectors.nodes(own), y, self.config.temperature, targets, group=group)
        return self.config.weight * total

    def _distinct(self, nodes: np.ndarray, step: Step) -> np.ndarray:
        """Return distinct nodes, in a random order where they are told apart in groups."""
        own = np.unique(nodes)
        return np.random.default_rng(step.seed()).permutation(own) if len(own) > self.config.contrast_size else own


class TextRebuilt(_Texts):
    """``gen``: some nodes lose their layer 0 for a step, and their text is rebuilt from what propagation gives them."""

    def __init__(self, texts: np.ndarray, linked: np.ndarray, config: RLMRecConfig, rng: np.random.Generator) -> None:
        super().__init__(texts, (config.dim, texts.shape[1]), config, rng)
        self.candidates = np.flatnonzero(self.known & linked)
        self.token = nn.Parameter(torch.zeros(config.dim))
        self.masked = np.empty(0, np.int64)

    def layer0(self, free: Tensor, step: Step | None) -> Tensor:
        """Put the token in place of nodes drawn anew in each step."""
        if step is None or not len(self.candidates):
            return free
        count = max(int(len(self.candidates) * self.config.mask_share), 1)
        drawn = np.random.default_rng(step.seed()).choice(self.candidates, count, replace=False)
        self.masked = drawn.astype(np.int64)
        hidden = torch.zeros(len(free), 1, dtype=torch.bool, device=free.device)
        hidden[torch.from_numpy(self.masked).to(free.device)] = True
        return torch.where(hidden, self.token, free)

    def rows(self, batch: Triples) -> np.ndarray:
        """Return the masked nodes."""
        return self.masked

    def loss(self, step: Step) -> Tensor:
        """Return the loss of rebuilding; the drawn order is random, and so are the groups."""
        c = self.config
        rebuilt = self.network(step.vectors.nodes(self.masked))
        return c.weight * contrast(rebuilt, self._texts_of(self.masked), c.temperature, group=c.contrast_size)


def _linear(first: int, last: int, rng: np.random.Generator) -> nn.Linear:
    """Return a linear layer, Xavier's weights and no bias at first."""
    made: nn.Linear = nn.utils.skip_init(nn.Linear, first, last)  # type: ignore[no-untyped-call]
    bound = (6 / (first + last)) ** 0.5
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, (last, first)).astype(np.float32)))
        made.bias.zero_()
    return made
