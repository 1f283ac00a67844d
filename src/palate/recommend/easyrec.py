"""EasyRec: one text encoder, tuned so that what is written of a person lies close to what is written of their items.

    u = f(profile of a person)     p, n = f(profile of an item that the person had; that they had not)

    L = -1/B Σ_b ln( e^{cos(u_b, p_b)/τ} / ( Σ_c e^{cos(u_b, p_c)/τ} + Σ_c e^{cos(u_b, n_c)/τ} ) ) + λ L_masked words

    score(u, i) = 1/V² Σ_v Σ_w cos( f(version v of u), f(version w of i) )

Profiles are written from the data by template (:mod:`palate.language.profiles`); a column of the items' attributes that a
language model wrote is told like any other. Each look at a profile draws one of ``versions`` paraphrases; an answer is the mean
over them. No person and no item has numbers of its own. So whoever has a history or states a preference (``Requests.texts``,
which stands in place of the profile) is answered, items that nobody had are placed by their text, and :meth:`EasyRec.transfer`
answers data that the encoder never saw, without training. Learn from several data sets at once through
:func:`palate.data.mixture.mixed`; what a person had not is then drawn within the data set.

``encoder`` is ``"hashed"`` (words and runs of characters, hashed into a table under a network: nothing to fetch, minutes on two
cores), ``"minilm"``, or the folder of a transformer or of an encoder that was tuned before. :meth:`EasyRec.save_encoder` writes
the tuned one as a folder that :func:`palate.language.encoder.encoder` opens, and with it every system that takes an encoder.

Source: X. Ren, C. Huang, "EasyRec: Simple yet Effective Language Models for Recommendation", EMNLP 2025, arXiv 2408.08821.
Differences from the paper and its published code:

- Profiles come from templates, written from training interactions alone; the paper's from a language model that saw reviews.
- ``leave_out``: a person's profile in training is written without the item that is to be found, as it will be in an answer; the
  paper's holds it, so its words can be looked up there. ``leave_out=False`` is the paper's way.
- ``mask_own``: an item that a person had is no negative where it stands elsewhere in the batch; the published code counts it.
- The hashed encoder is ours. A transformer is pooled as its folder says, without another layer and tanh on top, so that the
  tuned folder stays one that any library reads. It reads as many tokens in answers as in training (the code: 64, then 512).
- Masked words need a transformer with a head for them, and are refused otherwise (``mlm_weight``, the paper's is 0.1).
- The mean over versions is one of scores, not of the metric over several rankings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from palate.contracts.config import With
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting, Former
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.mixture import DOMAIN
from palate.data.ragged import in_sorted
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.language.encoder import TextEncoder
from palate.language.encoders import packages
from palate.language.encoders.hashed import HashedEncoder, idf_of_buckets
from palate.language.profile_sentences import ProfileForm
from palate.language.profiles import ItemProfiles, item_profiles, user_profiles
from palate.language.texts import text_columns
from palate.nn.adam import Adam
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.samplers import Unseen
from palate.training.text_towers import HashedTower, Tower, alignment, no_head, opened, tower_of, unpacked
from palate.training.validation import validator

#: Texts that pass through a tower at once when vectors are looked at between epochs.
BLOCK = 512
#: People whose profiles are written at once in training, about.
WRITTEN = 4096
#: Begins the names of the encoder's arrays in a bundle.
_PREFIX = "encoder/"


class EasyRecConfig(TrainConfig):
    """Settings of EasyRec."""

    counts_with: ClassVar[Mapping[str, With]] = dict.fromkeys(
        ("dim", "width", "hidden", "buckets", "subwords"), With("encoder", ("hashed",))
    ) | dict.fromkeys(("max_tokens", "pooling", "mlm_share"), With("encoder", unless=("hashed",)))

    epochs: int = Field(25, ge=0, description="passes over all people; 0 leaves the encoder as it is")
    batch_size: int = Field(256, gt=0, description="people a batch, each with an item had and one not had")
    lr: float = Field(1e-3, gt=0, description="step size of Adam (a transformer wants about 5e-5)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    encoder: str = Field("hashed", description='"hashed", "minilm", or the folder of a transformer or a hashed encoder')
    temperature: float = Field(0.05, gt=0, description="cosines are divided by this")
    versions: int = Field(4, ge=1, le=5, description="paraphrases of each profile, the plain form included")
    draws: int = Field(1, ge=1, description="items drawn for each person in an epoch")
    leave_out: bool = Field(True, description="whether a profile in training is written without the item to be found")
    mask_own: bool = Field(True, description="whether a person's own items elsewhere in the batch are no negatives")
    require_text: bool = Field(True, description="refuse items without texts (else their ids are their names)")
    max_chars: int = Field(600, gt=0, description="most characters of a profile")
    max_items: int = Field(10, gt=0, description="most items that a person's profile names")
    dim: int = Field(128, gt=0, description="length of a vector")
    width: int = Field(128, gt=0, description="width of the table of hashed words")
    hidden: tuple[int, ...] = Field((128,), description="widths of the hidden layers")
    buckets: int = Field(2**16, gt=0, description="rows of the table of hashed words")
    subwords: float = Field(0.5, ge=0, le=100, description="weight of runs of characters beside words")
    max_tokens: int = Field(64, gt=2, description="most tokens of a text")
    pooling: Literal["cls", "mean"] | None = Field(None, description="pooling of a transformer whose folder doesn't say")
    mlm_weight: float = Field(0.0, ge=0, description="λ of masked words (the paper's: 0.1); needs a transformer with a head")
    mlm_share: float = Field(0.15, gt=0, lt=1, description="share of tokens that are masked")


class EasyRec(VectorRecommender):
    """Recommendation by a tuned text encoder (see the module's text)."""

    name: ClassVar[str] = "easyrec"
    reads_words: ClassVar[bool] = True
    Settings = EasyRecConfig
    config: EasyRecConfig
    encoder_: TextEncoder
    packed_: dict[str, np.ndarray]
    item_vectors_: np.ndarray
    profiles_: ItemProfiles

    def transfer(self, dataset: Dataset) -> Self:
        """Return a model of another data set that uses this one's encoder as it is: nothing is trained.

        Raises
        ------
        DataError
            If no attribute says what the items of the data set are, or it says the same of all.
        """
        self._check_fitted()
        former = Former(self._state(), self.histories_, self.item_counts_)
        return type(self)(self.config)._take_up(dataset, Fitting(data=dataset.fingerprint, former=former))

    def save_encoder(self, folder: str | Path) -> Path:
        """Write the tuned encoder into a new or empty folder, for ``encoder(folder)``; return the folder."""
        self._check_fitted()
        return unpacked(self.packed_, Path(folder))

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        texts = self._write_items()
        if fitting.former is not None:
            self._place(_encoder_of(fitting.former.state), texts)
            fitting.report("EasyRec: transferred", 1, 1)
            return {"transferred": True}
        tower = self._tower(texts, fitting).to(usable_device(fitting.device))
        trainer = _Trainer(self, tower, dataset, texts)

        def place() -> None:
            self.encoder_ = opened(tower.packed())
            self.item_vectors_ = _mean(_vectors(tower, rows) for rows in trainer.items)

        c = self.config
        kind = Adam if next(tower.parameters()).device.type == "cpu" else torch.optim.AdamW
        learnt = [p for p in tower.parameters() if p.requires_grad]
        record = fit_module(
            trainer,
            batches=trainer.epoch,
            loss=trainer.loss,
            config=c,
            fitting=fitting,
            title="EasyRec",
            evaluate=validator(self, fitting.validation, before=place),
            optimizer=kind(learnt, lr=c.lr, weight_decay=c.weight_decay),
        )
        self._place(tower.packed(), texts)
        return {**record.notes, "people": len(trainer.people)}

    # -- texts and vectors ----------------------------------------------------------------------

    def _form(self, version: int) -> ProfileForm:
        return ProfileForm(version=version, max_chars=self.config.max_chars, max_items=self.config.max_items)

    def _named_items(self) -> Entities:
        """Return the items; where they have no text and need none, their ids as titles."""
        if self.config.require_text or text_columns(self.items_):
            return self.items_
        return Entities(self.items_.ids, pa.table({"title": [str(raw) for raw in self.items_.ids.raw.to_pylist()]}))

    def _write_items(self) -> list[Sequence[str]]:
        """Return the items' profiles, a list a version; keep what people's are written from.

        Raises
        ------
        DataError
            If all of them are the same.
        """
        items = self._named_items()
        found = [item_profiles(items, self._form(version)) for version in range(self.config.versions)]
        self.profiles_ = found[0]
        told = [text for text in found[0].texts if text]
        if len(told) > 1 and len(set(told)) == 1:
            raise DataError(
                f"all {len(told):,} items that have a text have the same one, so nothing tells them apart.",
                where="items",
                value=told[0][:80],
                remedy="give them titles, categories or descriptions of their own",
            )
        return [profiles.texts for profiles in found]

    def _tower(self, texts: list[Sequence[str]], fitting: Fitting) -> Tower:
        c = self.config
        if c.encoder != "hashed":
            folder = packages.MINILM.find("minilm").parent if c.encoder == "minilm" else Path(c.encoder)
            return tower_of(folder, pooling=c.pooling, max_tokens=c.max_tokens, words=c.mlm_weight > 0)
        if c.mlm_weight > 0:
            raise no_head("encoder=hashed")
        idf = idf_of_buckets([text for rows in texts for text in rows], c.buckets, c.subwords)
        rng = fitting.rng("easyrec", "weights")
        shape = {"buckets": c.buckets, "width": c.width, "hidden": c.hidden, "dim": c.dim, "subwords": c.subwords}
        return HashedTower(HashedEncoder.fresh(rng, **shape, idf=idf))  # type: ignore[arg-type]

    def _place(self, packed: Mapping[str, np.ndarray], texts: list[Sequence[str]]) -> None:
        """Set the encoder, and the items' vectors: the mean over versions (zero where nothing is known of an item)."""
        self.packed_, self.encoder_ = dict(packed), opened(packed)
        self.item_vectors_ = _mean(self.encoder_.encode(rows) for rows in texts)

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``, the mean over versions, so at most of length one (zero where nothing is known)."""
        return self.item_vectors_

    def embed_items(self, attributes: Any) -> np.ndarray:
        """Return ``float32[n, d]``: vectors of items that need not be in the catalogue, by an Arrow table of attributes."""
        self._check_fitted()
        items = Entities(Vocabulary(np.arange(attributes.num_rows)), attributes)
        rows = [item_profiles(items, self._form(version)).texts for version in range(self.config.versions)]
        return _mean(self.encoder_.encode(texts) for texts in rows)

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (zero where nothing is known of the person)."""
        stated, found = self._stated(requests), np.zeros((len(requests), self.encoder_.dim), np.float32)
        for version in range(self.config.versions):
            written = user_profiles(requests.histories, self.profiles_, self._form(version)).texts
            found += self.encoder_.encode([own or text for own, text in zip(stated, written, strict=True)])
        return found / np.float32(self.config.versions)

    def _informed(self, requests: Requests) -> np.ndarray:
        told = np.concatenate([[0], np.cumsum(self.profiles_.known[requests.histories.items])])
        stated = np.array([bool(text) for text in self._stated(requests)], bool)
        return np.asarray((np.diff(told[requests.histories.offsets]) > 0) | stated)

    def _stated(self, requests: Requests) -> list[str]:
        """Return what each person states, ``""`` where that is nothing or has no word."""
        texts = requests.texts or [""] * len(requests)
        return [text if any(letter.isalnum() for letter in text or "") else "" for text in texts]

    def explain(self, request: Requests, item: int) -> Explanation:
        """Leave each item of the history out in turn; a stated preference is read as a whole, and has no parts."""
        self._check_question(request, item)
        if not self._stated(request)[0]:
            return super().explain(request, item)
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        return Explanation(item, score, (), exact=False, method="the stated preference alone", rest=score)

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        return {**{_PREFIX + name: array for name, array in self.packed_.items()}, "item_vectors": self.item_vectors_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.packed_ = _encoder_of(state)
        self.encoder_, self.item_vectors_ = opened(self.packed_), state["item_vectors"]
        self.profiles_ = item_profiles(self._named_items(), self._form(0))


@dataclass(frozen=True)
class _Batch:
    """Texts as the tower reads them: people, items had, items not had; and which negatives don't count for whom."""

    people: list[Any]
    had: list[Any]
    others: list[Any]
    hidden: np.ndarray | None


class _Trainer(nn.Module):
    """Batches of an epoch, and their loss."""

    def __init__(self, model: EasyRec, tower: Tower, dataset: Dataset, texts: list[Sequence[str]]) -> None:
        super().__init__()
        self.tower, self.model, self.config = tower, model, model.config
        self.items = [tower.read(rows) for rows in texts]
        self.histories = dataset.histories
        told = model.profiles_.known
        had = dataset.matrix().tocsr()
        had = sparse.csr_matrix(had.multiply(told[None, :].astype(np.float32)))
        had.eliminate_zeros()
        had.sort_indices()
        self.had, self.counts = had, np.diff(had.indptr)
        self.people = np.flatnonzero(self.counts > int(self.config.leave_out))
        self.keys = np.repeat(np.arange(had.shape[0], dtype=np.int64), self.counts) * had.shape[1] + had.indices
        self.unseen = _domains(dataset, told, had)

    def epoch(self, number: int, rng: np.random.Generator) -> _Epoch:
        users = np.concatenate([rng.permutation(self.people) for _ in range(self.config.draws)])
        had = self.had.indices[self.had.indptr[users] + (rng.random(len(users)) * self.counts[users]).astype(np.int64)]
        others = np.full(len(users), -1, np.int32)
        for items, unseen in self.unseen:
            rows = np.flatnonzero(np.isin(had, items))
            drawn = unseen.sample_for(rng, users[rows].astype(np.int32))
            others[rows] = np.where(drawn >= 0, items[np.maximum(drawn, 0)], -1)
        return _Epoch(self, users, had, others, rng.integers(self.config.versions, size=(3, len(users))))

    def written(self, users: np.ndarray, had: np.ndarray, versions: np.ndarray) -> list[str]:
        """Return a profile for each row, in its version, without the row's own item if so set."""
        histories = self.histories.take(users)
        if self.config.leave_out:
            histories = without(histories, had)
        texts = [""] * len(users)
        for version in np.unique(versions):
            rows = np.flatnonzero(versions == version)
            found = user_profiles(histories.take(rows), self.model.profiles_, self.model._form(int(version))).texts
            for row, text in zip(rows, found, strict=True):
                texts[row] = text
        return texts

    def hidden(self, users: np.ndarray, had: np.ndarray, others: np.ndarray) -> np.ndarray | None:
        """Return ``bool[B, B + m]``: items of the batch that a row's person had, but for the row's own place."""
        if not self.config.mask_own:
            return None
        wanted = users[:, None].astype(np.int64) * self.had.shape[1] + np.concatenate([had, others])[None, :]
        found = in_sorted(self.keys, wanted)
        found[np.arange(len(users)), np.arange(len(users))] = False
        return found

    def loss(self, batch: _Batch, generator: torch.Generator) -> Tensor:
        c, n, m = self.config, len(batch.people), len(batch.people) + len(batch.had)
        texts = [*batch.people, *batch.had, *batch.others]
        vectors = self.tower(texts)
        hidden = None if batch.hidden is None else torch.from_numpy(batch.hidden).to(vectors.device)
        loss = alignment(vectors[:n], vectors[n:m], vectors[m:], c.temperature, hidden)
        if c.mlm_weight:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            loss = loss + c.mlm_weight * self.tower.masked_words(texts, c.mlm_share, np.random.default_rng(seed))
        return loss


@dataclass(frozen=True)
class _Epoch:
    """The batches of an epoch, made one at a time; ``versions`` are those of people, of items had and not had."""

    trainer: _Trainer
    users: np.ndarray
    had: np.ndarray
    others: np.ndarray
    versions: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.users) // self.trainer.config.batch_size)

    def __iter__(self) -> Iterator[_Batch]:
        size, own = self.trainer.config.batch_size, self.trainer
        block = max(1, WRITTEN // size) * size
        for start in range(0, len(self.users), size):
            part, v = slice(start, start + size), self.versions[:, start : start + size]
            if start % block == 0:
                ahead = slice(start, start + block)
                written = own.written(self.users[ahead], self.had[ahead], self.versions[0, ahead])
            users, had, others = self.users[part], self.had[part], self.others[part]
            people = own.tower.read(written[start % block : start % block + size])
            kept = np.flatnonzero(others >= 0)
            read = [own.items[version][item] for version, item in zip(v[1], had, strict=True)]
            more = [own.items[version][item] for version, item in zip(v[2, kept], others[kept], strict=True)]
            yield _Batch(people, read, more, own.hidden(users, had, others[kept]))


def without(histories: Histories, items: np.ndarray) -> Histories:
    """Return histories less all events of one item each (``int32[n]``)."""
    bounds = zip(histories.offsets[:-1], histories.offsets[1:], items, strict=True)
    rows = (histories.items[low:high] for low, high, _ in bounds)
    return Histories.from_rows([row[row != item] for row, item in zip(rows, items, strict=True)])


def _domains(dataset: Dataset, told: np.ndarray, had: sparse.csr_matrix) -> list[tuple[np.ndarray, Unseen]]:
    """Return the told items of each domain, and what draws from them; one domain where no column names any."""
    column = dataset.items.column(DOMAIN)
    names = np.zeros(len(told), np.int64)
    if column is not None:
        names = np.unique(column.to_numpy().astype(str), return_inverse=True)[1]
    groups = (np.flatnonzero(told & (names == name)).astype(np.int32) for name in np.unique(names))
    return [(items, Unseen(sparse.csr_matrix(had[:, items]))) for items in groups if len(items)]


def _mean(vectors: Iterable[np.ndarray]) -> np.ndarray:
    """Return ``float32[n, d]``: the mean over versions."""
    return np.asarray(np.mean(list(vectors), axis=0), np.float32)


def _vectors(tower: Tower, texts: Sequence[Any]) -> np.ndarray:
    """Return ``float32[n, d]`` of texts as the tower reads them."""
    with torch.inference_mode():
        tower.eval()
        return np.concatenate([tower(texts[at : at + BLOCK]).cpu().numpy() for at in range(0, len(texts), BLOCK)])


def _encoder_of(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the packed encoder in the arrays of a bundle."""
    return {name.removeprefix(_PREFIX): array for name, array in state.items() if name.startswith(_PREFIX)}
