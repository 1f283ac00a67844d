"""What profiles are made of: names, topics and makers of items, and what marks a person's items most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.data.dataset import Entities
from palate.data.ragged import offsets_of
from palate.errors import DataError
from palate.language.texts import KNOWN, text_columns

_NAMES = ("title", "name", "headline", "movie_title")
_TOPICS = ("categories", "category", "genres", "genre", "class", "tags", "cuisine")
_MAKERS = ("brand", "authors", "author", "artist", "director", "stars")
_ABOUT = tuple(column for column in KNOWN if column not in (*_NAMES, *_TOPICS, *_MAKERS))
_LISTED = (*_TOPICS, *_MAKERS)
_PARTED = re.compile(r"\s*[|;,]\s*")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]{4,}")
#: Words stand in for topics if they are of at least so many items, and at most of this share; the rarest of an item.
_LEAST, _MOST, _WORDS = 2, 0.2, 12


@dataclass(frozen=True, eq=False)
class Held:
    """Which item has which word: the distinct ``words``, a matrix items x words of ones, and ``ln(N / n)`` of each word."""

    words: Sequence[str]
    matrix: sparse.csr_matrix
    rarity: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[str]]) -> Held:
        """Return that of a list of words an item."""
        words = sorted({word for row in lists for word in row})
        place = {word: at for at, word in enumerate(words)}
        columns = np.array([place[word] for row in lists for word in row], np.int32)
        offsets = offsets_of([len(row) for row in lists])
        matrix = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), shape=(len(lists), len(words)))
        rarity = np.log(max(1, len(lists)) / np.maximum(np.bincount(columns, minlength=len(words)), 1))
        return cls(words, matrix, rarity)


@dataclass(frozen=True, eq=False)
class ItemFacts:
    """What is known of each item."""

    names: list[str]
    topics: list[list[str]]
    makers: list[list[str]]
    about: list[str]
    has_topics: bool

    @classmethod
    def of(cls, entities: Entities) -> ItemFacts:
        """Read the attributes of items."""
        columns = text_columns(entities)
        told = {name: list(_entries(entities, name, parted=name in _LISTED)) for name in columns}
        if not any(any(rows) for rows in told.values()):
            held = [] if entities.attributes is None else entities.attributes.column_names
            raise DataError(
                "no attribute says what an item is, so there can be no profiles.",
                where="attributes of items",
                value=", ".join(held) or "none",
                remedy=f"give items a column of text, such as {', '.join(KNOWN[:1] + _TOPICS[:1] + ('description',))}",
            )

        def joined(wanted: Iterable[str]) -> list[list[str]]:
            found = [told[name] for name in wanted if name in told]
            return [list(dict.fromkeys(entry for rows in found for entry in rows[at])) for at in range(len(entities))]

        return cls(
            [row[0] if row else "" for row in joined(_NAMES)],
            joined(_TOPICS),
            joined(_MAKERS),
            [" ".join(row) for row in joined(_ABOUT)],
            any(name in _TOPICS for name in columns),
        )

    def rows(self) -> Iterator[tuple[str, list[str], list[str], str]]:
        """Give name, topics, makers and text of each item."""
        return zip(self.names, self.topics, self.makers, self.about, strict=True)

    def topics_or_words(self) -> list[list[str]]:
        """Return the topics; of data without a column of such, the rarest words that several items share."""
        if self.has_topics:
            return self.topics
        words = [set(_WORD.findall(f"{name} {about}".casefold())) for name, about in zip(self.names, self.about, strict=True)]
        counts = Counter(word for row in words for word in row)
        most = max(_LEAST, _MOST * len(words))
        kept = [[word for word in row if _LEAST <= counts[word] <= most] for row in words]
        return [sorted(row, key=lambda word: (counts[word], word))[:_WORDS] for row in kept]


def _entries(entities: Entities, name: str, *, parted: bool) -> Iterator[list[str]]:
    """Yield the entries of an attribute, tidy, a list an item; ``parted``: a text such as ``Action|Comedy`` lists several."""
    column = entities.column(name)
    assert column is not None
    for chunk in column.chunks:
        for value in chunk.to_pylist():
            rows = value if isinstance(value, list) else _PARTED.split(value) if parted and value else [value]
            tidy = (_SPACE.sub(" ", str(entry).replace("\0", " ")).strip() for entry in rows if entry is not None)
            yield [entry for entry in tidy if entry]


def favourites(had: sparse.csr_matrix, held: Held, most: int, *, least: int) -> list[list[str]]:
    """Return what marks each person's items most, by how often times how rare; of what at least so many items have."""
    counts = (had @ held.matrix).tocsr()
    found = []
    for row in range(had.shape[0]):
        low, high = counts.indptr[row : row + 2]
        kept = np.flatnonzero(counts.data[low:high] >= least) + low
        own = counts.indices[kept]
        order = np.lexsort((own, -counts.data[kept] * held.rarity[own]))[:most]
        found.append([held.words[at] for at in own[order]])
    return found
