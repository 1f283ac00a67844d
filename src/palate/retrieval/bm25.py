"""BM25 over the texts of items, which come and go while it answers::

    score(q, d) = sum_fields w_f  sum_{t in q}  idf_f(t)  c / (c + k1 (1 - b + b |d|_f / mean |d|_f))
    idf_f(t) = ln(1 + (N_f - n_t + 1/2) / (n_t + 1/2))

with ``c`` the times that ``t`` stands in field ``f`` of ``d``, ``N_f`` the documents that have the field, and ``n_t`` those
where the word stands in it. This is the form of Lucene since version 8 (without the constant ``k1 + 1``), with lengths kept
exactly. A word that the query repeats counts as often.

Documents may be added and removed at any time (:mod:`palate.retrieval.segments`). Counts and mean lengths are those of the
documents that exist now: the scores are those of an index built anew, to the bit.

Sources: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; Apache Lucene,
BM25Similarity.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.data.ragged import offsets_of
from palate.errors import BundleError, ConfigError, DataError
from palate.kernels.postings import Postings, Query, search_postings
from palate.retrieval.files import load_folder, pack_arrays, save_folder, unpack_arrays
from palate.retrieval.index import Exclude, as_rows, check_k
from palate.retrieval.segments import Segment, State, counted, find, merged, tidied, without
from palate.retrieval.tokens import tokens

Texts = Sequence[str] | Mapping[str, Sequence[str]]


class BM25:
    """Search of item texts by words.

    Searches and changes may come from any number of threads: a search sees the index as it was when it began.

    Parameters
    ----------
    fields
        Weight of each field; by default one field ``"text"``.
    k1, b
        How soon repetitions saturate, and how much long texts are held back.
    tokens
        Splits a text into words.

    Examples
    --------
    >>> index = BM25()
    >>> index.add([7, 8], ["a red bicycle", "a red car"])
    >>> index.search("bicycle, red", k=2)[0].tolist()
    [[7, 8]]
    """

    def __init__(
        self,
        fields: Mapping[str, float] | None = None,
        *,
        k1: float = 1.2,
        b: float = 0.75,
        tokens: Callable[[str], list[str]] = tokens,
    ) -> None:
        self.fields = dict(fields or {"text": 1.0})
        self.k1, self.b = k1, b
        if not (k1 >= 0 and 0 <= b <= 1 and all(1e-6 <= weight <= 1e6 for weight in self.fields.values())):
            value = [k1, b, *self.fields.values()]
            raise ConfigError("k1 is not negative, b lies in 0 to 1, weights lie in 1e-6 to 1e6.", value=value)
        self._tokens = tokens
        self._numbers: list[dict[str, int]] = [{} for _ in self.fields]
        self._lock = threading.Lock()
        n = len(self.fields)
        none = np.empty(0, np.int64)
        self._state = State((), none.astype(np.int8), none, np.zeros(n, np.int64), np.zeros(n, np.int64))

    def __len__(self) -> int:
        return sum(segment.size for segment in self._state.segments)

    def __contains__(self, item: int) -> bool:
        return any(segment.live[find(segment, np.array([item]))].any() for segment in self._state.segments)

    def add(self, items: Sequence[int] | np.ndarray, texts: Texts) -> None:
        """Index documents; an item that is there already is replaced.

        Parameters
        ----------
        items
            ``int32[m]``: distinct item numbers.
        texts
            ``m`` texts; with several fields a mapping from field to ``m`` texts (a field may be left out, a text may be empty).
        """
        numbers = _checked_items(items)
        columns = self._columns(texts, len(numbers))
        words = [[Counter(self._tokens(text)) for text in column] for column in columns]
        with self._lock:
            field_of = self._learn(words, self._state.field_of)
            segment = self._segment(numbers, words, field_of)
            grown = replace(self._state, field_of=field_of, frequency=_grow(self._state.frequency, len(field_of)))
            kept = counted(without(grown, numbers)[0], segment, 1)
            self._state = tidied(replace(kept, segments=(*kept.segments, segment)))

    def remove(self, items: Sequence[int] | np.ndarray) -> int:
        """Forget documents; return how many of the items were there."""
        with self._lock:
            state, count = without(self._state, _checked_items(items))
            self._state = tidied(state)
        return count

    def search(
        self, texts: str | Sequence[str], k: int = 10, *, allowed: np.ndarray | None = None, exclude: Exclude = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best ``k`` items of each query.

        Parameters
        ----------
        texts
            One query, or ``n``.
        k
            How many.
        allowed
            ``bool``, one an item: the only items that may be returned.
        exclude
            Items not to return: a :class:`~palate.data.ragged.Ragged` with a row for each query, or one array for all.

        Returns
        -------
        items, scores
            ``int32[n, k]`` and ``float32[n, k]``, best first; equal scores rank by :func:`palate.kernels.topk.tie_key`.
            Documents without any word of the query are no answer: such rows end in item -1 and score ``-inf``.
        """
        check_k(k)
        queries = [texts] if isinstance(texts, str) else list(texts)
        state, gone = self._state, as_rows(exclude, len(queries))
        allowed = _as_mask(allowed, state)
        items, best = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        for row, text in enumerate(queries):
            query = self._query(text, state)
            own = None if gone is None else np.sort(gone[row].astype(np.int32, copy=False))
            for segment in state.segments:
                search_postings(segment.postings, query, items[row], best[row], segment.live, allowed, own)
        return items, best

    def parts(self, text: str, item: int) -> list[tuple[str, str, float]]:
        """Return field, word and part of the score for each word of a query in an item's text, the largest first."""
        state, names = self._state, list(self.fields)
        query, found = self._query(text, state), []
        words = {self._numbers[f].get(word): word for f in range(len(names)) for word in self._tokens(text)}
        for segment in state.segments:
            for d in find(segment, np.array([item])):
                p = segment.postings
                row = slice(p.offsets[d], p.offsets[d + 1])
                times = dict(zip(p.words[row].tolist(), p.times[row].tolist(), strict=True))
                for at, word in enumerate(query.words.tolist()):
                    if segment.live[d] and word in times:
                        field, c = int(query.fields[at]), times[word]
                        part = query.weights[at] * c / (c + query.a[at] + query.b[at] * p.lengths[d, field])
                        found.append((names[field], words[word], float(part)))
        return sorted(found, key=lambda entry: -entry[2])

    def save(self, folder: str | Path) -> Path:
        """Write the documents that exist, by word numbers, and the words; :meth:`load` makes the lists again."""
        with self._lock:
            state = self._state
            names = [list(numbers) for numbers in self._numbers]
        p = merged(state.segments, state.field_of).postings
        arrays = pack_arrays(
            items=p.items, offsets=p.offsets, words=p.words, times=p.times, lengths=p.lengths, field_of=state.field_of
        )
        facts = {"fields": self.fields, "k1": self.k1, "b": self.b, "documents": len(p)}
        return save_folder(folder, "bm25", facts, {"documents.safetensors": arrays, "words.json": json.dumps(names).encode()})

    @classmethod
    def load(cls, folder: str | Path, *, tokens: Callable[[str], list[str]] = tokens) -> BM25:
        """Read what :meth:`save` wrote; give the same ``tokens`` where they were your own.

        Raises
        ------
        BundleError
            If anything is missing, was changed, or does not fit together.
        """
        facts, files = load_folder(folder, "bm25", ("documents.safetensors", "words.json"))
        arrays = unpack_arrays(files["documents.safetensors"], "items", "offsets", "words", "times", "lengths", "field_of")
        field_of, names = arrays[-1], json.loads(files["words.json"])
        index = cls(facts["fields"], k1=facts["k1"], b=facts["b"], tokens=tokens)
        if len(names) != len(index.fields) or sum(map(len, names)) != len(field_of):
            raise BundleError("words and documents don't belong together.", where=folder, remedy="build it again")
        for field, own in enumerate(names):
            index._numbers[field] = dict(zip(own, np.flatnonzero(field_of == field).tolist(), strict=True))
        items, offsets, numbers, times, lengths, _ = arrays
        postings = Postings.of(items, offsets, numbers, times, lengths, field_of)
        segment = Segment(postings, np.ones(len(postings), bool))
        state = replace(index._state, field_of=field_of, frequency=np.zeros(len(field_of), np.int64))
        index._state = replace(counted(state, segment, 1), segments=(segment,) if len(postings) else ())
        return index

    # -- inside -----------------------------------------------------------------------------------

    def _columns(self, texts: Texts, n: int) -> list[Sequence[str]]:
        """Return the texts of each field."""
        given = texts if isinstance(texts, Mapping) else {next(iter(self.fields)): texts}
        unknown = sorted(set(given) - set(self.fields))
        if unknown:
            raise DataError("the index has no such field.", value=unknown[0], remedy=f"it has: {', '.join(self.fields)}")
        for name, column in given.items():
            if isinstance(column, str) or len(column) != n:
                raise DataError("there is one text for each item.", where=name, value=len(column), remedy=f"give {n} texts")
        return [given.get(name, [""] * n) for name in self.fields]

    def _learn(self, columns: list[list[Counter[str]]], field_of: np.ndarray) -> np.ndarray:
        """Number the new words; return the field of every word."""
        new: list[int] = []
        for field, rows in enumerate(columns):
            numbers = self._numbers[field]
            for row in rows:
                for word in row:
                    if word not in numbers:
                        numbers[word] = len(field_of) + len(new)
                        new.append(field)
        return np.concatenate([field_of, np.array(new, np.int8)])

    def _segment(self, items: np.ndarray, columns: list[list[Counter[str]]], field_of: np.ndarray) -> Segment:
        order = np.argsort(items, kind="stable")
        words: list[np.ndarray] = []
        times: list[np.ndarray] = []
        for d in order:
            pairs = sorted((self._numbers[f][word], c) for f, rows in enumerate(columns) for word, c in rows[d].items())
            words.append(np.array([word for word, _ in pairs], np.int32))
            times.append(np.array([c for _, c in pairs], np.float32))
        lengths = np.array([[rows[d].total() for rows in columns] for d in order], np.float32).reshape(len(items), len(columns))
        flat = (np.concatenate([np.empty(0, np.int32), *words]), np.concatenate([np.empty(0, np.float32), *times]))
        postings = Postings.of(items[order], offsets_of([len(row) for row in words]), *flat, lengths, field_of)
        return Segment(postings, np.ones(len(items), bool))

    def _query(self, text: str, state: State) -> Query:
        """Weigh the words of a query; those that no document holds are left out."""
        words: list[int] = []
        weights: list[float] = []
        for field, (weight, numbers) in enumerate(zip(self.fields.values(), self._numbers, strict=True)):
            for word, count in Counter(self._tokens(text)).items():
                number = numbers.get(word, len(state.frequency))
                held = int(state.frequency[number]) if number < len(state.frequency) else 0
                if held:
                    words.append(number)
                    weights.append(weight * count * np.log1p((state.documents[field] - held + 0.5) / (held + 0.5)))
        numbers_, heavy = np.array(words, np.int32), np.array(weights, np.float32)
        order = np.argsort(-heavy, kind="stable")
        fields = state.field_of[numbers_[order]]
        mean = state.total / np.maximum(state.documents, 1)
        b = (self.k1 * self.b / np.maximum(mean, 1e-9)).astype(np.float32)[fields]
        return Query(numbers_[order], heavy[order], np.full(len(order), self.k1 * (1 - self.b), np.float32), b, fields)


def _grow(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(size - len(values), values.dtype)])


def _checked_items(items: Sequence[int] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(items)
    whole = numbers.ndim == 1 and (numbers.dtype.kind in "iu" or not len(numbers))
    if not whole or (len(numbers) and (numbers.min() < 0 or numbers.max() > np.iinfo(np.int32).max)):
        raise DataError("items are whole numbers from 0.", value=numbers.tolist())
    if len(np.unique(numbers)) != len(numbers):
        raise DataError("an item is named twice.", remedy="join its texts, or give the last one alone")
    return numbers.astype(np.int32)


def _as_mask(allowed: np.ndarray | None, state: State) -> np.ndarray | None:
    """Return the mask; it must reach as far as the items do."""
    if allowed is None:
        return None
    needed = max((int(s.postings.items[-1]) + 1 for s in state.segments), default=0)
    mask = np.asarray(allowed)
    if mask.dtype != np.bool_ or mask.ndim != 1 or len(mask) < needed:
        raise DataError(
            "allowed says yes or no of each item.",
            where="allowed",
            value=f"{mask.dtype}{list(mask.shape)}",
            remedy=f"give a bool array of {needed} or more",
        )
    return mask
