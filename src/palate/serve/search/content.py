"""What items say, as vectors: search by meaning, and likeness by content for items that no model knows yet.

    v_i = encoder(title, categories, text of i),    likeness(q, i) = (<q, v_i> - c) / (1 - c)

with ``q`` the unit vector of a query, of an item, or of the middle of a history, and ``c`` the mean cosine of words that have
nothing to do with each other (:data:`UNRELATED`). So 0 is the likeness of unrelated texts and 1 that of the same text, whatever
encoder is used: for some, any two texts have a cosine of a half.

Vectors follow the catalogue as it changes. A few changed items are encoded by whoever asks next, so that an item counts in the
very next answer after it was put in. Many (a catalogue at the start, a large import), or few with a slow encoder, are encoded
beside the requests, which meanwhile are answered from what is there; the thread that does it rests between small blocks, so
that requests find the interpreter free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from palate.errors import ConfigError, PalateError
from palate.extras import available
from palate.language.encoder import TextEncoder, encoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.retrieval.live import LiveVectors
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.settings import SearchSettings

log = logging.getLogger("palate.serve")

#: Likeness that unrelated texts may have by rounding alone.
ROUNDING = 1e-5
#: Items that are encoded while somebody waits, at most: with a fast encoder, and with a slow one.
AT_ONCE, AT_ONCE_SLOW = 1_024, 8
#: Items encoded at a time beside the requests, likewise; then the thread rests for so many times as long as that took.
BLOCK, BLOCK_SLOW = 256, 32
REST = 2.0
#: Texts that an encoder is fitted on at most, evenly spaced; it is fitted anew when there are so many times more than then.
LEARNT, DOUBLED = 20_000, 2
#: Characters of an item's text that count.
LONGEST = 2_000
#: Words of far fields, from which the cosine of unrelated texts is measured.
UNRELATED = (
    *("kettle", "trumpet", "glacier", "mortgage", "spider", "velvet", "parliament", "soccer", "vaccine", "bicycle", "algebra"),
    *("pancake", "submarine", "wedding", "desert", "laptop", "pottery", "volcano", "lawyer", "toothbrush", "orchid", "comedy"),
)


@dataclass(frozen=True)
class _Space:
    """An encoder, the vectors that it made, and of which items.

    ``texts`` is how many items there were when it was fitted (``None``: it needs no fit), ``unrelated`` the cosine of unrelated
    texts.
    """

    encoder: TextEncoder
    queries: TextEncoder
    vectors: LiveVectors
    texts: int | None
    unrelated: float = 0.0
    known: dict[int, Item] = field(default_factory=dict)

    @classmethod
    def of(cls, made: TextEncoder, texts: int | None = None) -> _Space:
        """Return an empty space; the cosine of unrelated texts is measured where the encoder knows most of the words."""
        queries = made.without_cache()
        vectors = queries.encode(UNRELATED)
        said = vectors[vectors.any(axis=1)]
        pairs = (said @ said.T)[np.triu_indices(len(said), 1)]
        level = float(pairs.mean()) if 2 * len(said) > len(vectors) else 0.0
        return cls(made, queries, LiveVectors(made.dim), texts, min(max(level, 0.0), 0.95))

    def likeness(self, cosines: np.ndarray) -> np.ndarray:
        """Return how alike texts are: 0 as unrelated ones, 1 as the same."""
        return np.asarray((cosines - self.unrelated) / (1 - self.unrelated), np.float32)

    def encode(self, texts: Sequence[str], *, kept: bool) -> np.ndarray:
        """Return vectors of length 1, or less where the encoder knows only part of a text; ``kept``: a cache may hold them."""
        found = (self.encoder if kept else self.queries).encode(texts)
        if isinstance(self.encoder, TfidfEncoder):
            found = found * self.encoder.known_share(texts)[:, None]
        return found


class Content:
    """Vectors of the catalogue's texts, kept up with it; numbers are its rows.

    Parameters
    ----------
    catalogue
        What to follow.
    settings
        Which encoder, and from what likeness on a text is found.

    Raises
    ------
    ConfigError, MissingExtraError, BundleError
        If an encoder is named that isn't there.
    """

    def __init__(self, catalogue: Catalogue, settings: SearchSettings) -> None:
        self.catalogue, self.settings = catalogue, settings
        self.off, self._trouble = settings.encoder == "off", ""
        self._made = None if settings.encoder in ("off", "auto", "tfidf") else encoder(settings.encoder)
        if isinstance(self._made, TfidfEncoder) and not hasattr(self._made, "vectors_"):
            raise ConfigError("the encoder was never fitted.", where="search.encoder", value=settings.encoder)
        self._space: _Space | None = None
        self._waiting: set[int] = set()
        self._since: set[int] | None = None  # what changes while everything is made anew
        self._lock, self._here, self._making = threading.Lock(), threading.Lock(), threading.Lock()
        self._busy, self._closed = False, threading.Event()
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="palate-content")
        if not self.off:
            catalogue.listen(self._changed)

    # -- what is asked ------------------------------------------------------------------------------

    @property
    def words(self) -> str:
        """What makes texts comparable, and how many items have a vector, or why none has."""
        space = self._space
        if self.off:
            return "off"
        if self._trouble:
            return f"no vectors: {self._trouble}"
        return "vectors are being made" if space is None else f"by {space.encoder.name}, {len(space.vectors)} items"

    def search(self, text: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and likeness of what may be shown and says something like a text, best first."""
        space = self._ready()
        if space is None or not text.strip():
            return _nothing()
        return self._nearest(space, space.encode([text], kept=False)[0], limit, self.settings.least)

    def similar(self, row: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and likeness of what may be shown and is more like a row than unrelated texts are, best first."""
        space = self._ready()
        if space is None:
            return _nothing()
        vector, known = space.vectors.take(np.array([row]))
        if not known[0]:
            return _nothing()
        rows, scores = self._nearest(space, vector[0], limit + 1, 0.0)
        return rows[rows != row][:limit], scores[rows != row][:limit]

    def nearest(self, history: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and likeness of what may be shown and says the like of a history, best first."""
        space = self._ready()
        taste = None if space is None else _taste(space, history)
        return _nothing() if space is None or taste is None else self._nearest(space, taste, limit, self.settings.least)

    def among(self, history: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return those of some rows that say the like of a history, best first, and their likeness."""
        space = self._ready()
        taste = None if space is None else _taste(space, history)
        if space is None or taste is None or not len(rows):
            return _nothing()
        vectors, known = space.vectors.take(rows)
        scores = space.likeness(vectors @ taste)
        good = np.flatnonzero(known & (scores >= self.settings.least))
        good = good[np.argsort(-scores[good], kind="stable")]
        return rows[good].astype(np.int32), scores[good]

    def parts(self, history: np.ndarray, row: int) -> np.ndarray | None:
        """Return ``float32[m]``: what each row of a history gives to the cosine between its mean and a row (their sum is it).

        ``None`` where either says nothing.
        """
        space = self._ready()
        if space is None:
            return None
        own, known = space.vectors.take(np.array([row]))
        vectors, _ = space.vectors.take(history)
        length = float(np.linalg.norm(vectors.sum(axis=0)))
        return np.asarray(vectors @ own[0] / length, np.float32) if known[0] and length > 0 else None

    def vectors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return ``float32[m, d]`` and which rows have a vector; ``None`` where there are none at all."""
        space = self._ready()
        return None if space is None else space.vectors.take(rows)

    def _nearest(self, space: _Space, query: np.ndarray, limit: int, least: float) -> tuple[np.ndarray, np.ndarray]:
        rows, cosines = space.vectors.search(query, max(1, limit), allowed=self.catalogue.shown)
        likeness = space.likeness(cosines)
        good = (likeness >= least) & (likeness > ROUNDING)
        return rows[good], likeness[good]

    # -- keeping up ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make vectors of what has none yet, beside the requests."""
        with self._lock:
            if self._busy or self._closed.is_set() or self.off or not (self._waiting or self._due()):
                return
            self._busy = True
        self._maker.submit(self._beside)

    def close(self) -> None:
        """Make no more vectors."""
        self._closed.set()
        self.catalogue.forget(self._changed)
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _changed(self, rows: Sequence[int]) -> None:
        with self._lock:
            self._waiting.update(rows)
            if self._since is not None:
                self._since.update(rows)
            self._trouble = ""

    def _ready(self) -> _Space | None:
        """Return the vectors after taking up what changed, where that is little; ``None`` where there are none yet."""
        if self.off or self._trouble or not (self._waiting or self._here.locked() or self._due()):
            return self._space
        with self._here:
            space, anew = self._space, not self._busy and self._due()
            slow = (self._made if space is None else space.encoder) or TfidfEncoder
            most = AT_ONCE_SLOW if slow.cached else AT_ONCE
            if (len(self.catalogue) if anew else len(self._waiting)) > most:
                self.begin()
            elif anew or space is not None:
                self._work()
        return self._space

    def _due(self) -> bool:
        """Say whether an encoder must be made or fitted before anything can be encoded (well)."""
        space = self._space
        if space is None:
            return bool(self._waiting)
        return space.texts is not None and len(space.known) > DOUBLED * space.texts

    def _beside(self) -> None:
        try:
            self._work(REST)
        finally:
            self._busy = False

    def _work(self, rest: float = 0.0) -> None:
        """Take up all that waits; what goes wrong is told, and tried again when something changes."""
        rows: list[int] = []
        try:
            if self._due():
                with self._making:
                    if self._due():
                        self._anew(rest)
            if self._space is not None:
                with self._lock:
                    rows, self._waiting = sorted(self._waiting), set()
                self._take_up(self._space, rows, rest)
        except Exception as error:  # whatever an encoder meets must not end an answer that words alone can give
            with self._lock:
                self._waiting |= set(rows)
                self._trouble = error.what if isinstance(error, PalateError) else type(error).__name__
            log.exception("texts have no vectors")

    def _anew(self, rest: float) -> None:
        """Make encoder and vectors of all there is, then put them in the place of the old ones."""
        with self._lock:
            self._since = set()
            rows = range(len(self.catalogue))
        space = self._fresh([_words(self.catalogue.items[row]) for row in rows])
        if space is not None:
            self._take_up(space, rows, rest)
        with self._lock:
            self._space, self._waiting, self._since = space, self._since, None

    def _fresh(self, texts: Sequence[str]) -> _Space | None:
        """Return an empty space; ``None`` where an encoder should learn from texts and none has a word."""
        if self._made is None and self.settings.encoder == "auto" and _static():
            self._made = encoder("static")
        if self._made is not None:
            return _Space.of(self._made)
        if not any(any(map(str.isalnum, text)) for text in texts):
            return None
        return _Space.of(TfidfEncoder().fit(texts[:: -(-len(texts) // LEARNT)]), len(texts))

    def _take_up(self, space: _Space, rows: Sequence[int], rest: float) -> None:
        """Encode what is new or says something else than before; forget what was deleted or has no words.

        A space that nobody asks yet gets its vectors in one piece, so that they are laid out once.
        """
        changed: list[tuple[int, Item]] = []
        for row in rows:
            item, known = self.catalogue.items[row], space.known.get(row)
            if known is None or _words(known) != _words(item):
                changed.append((row, item))
        size = BLOCK_SLOW if space.encoder.cached else BLOCK
        asked = space is self._space
        made = np.empty((0 if asked else len(changed), space.encoder.dim), np.float32)
        for start in range(0, len(changed), size):
            if self._closed.is_set():
                return
            began = time.perf_counter()
            some = changed[start : start + size]
            vectors = space.encode([_words(item) for _, item in some], kept=True)
            if asked:
                self._put(space, some, vectors)
            else:
                made[start : start + size] = vectors
            if rest and start + size < len(changed):
                self._closed.wait(rest * (time.perf_counter() - began))
        if len(made):
            self._put(space, changed, made)

    def _put(self, space: _Space, some: Sequence[tuple[int, Item]], vectors: np.ndarray) -> None:
        """Take vectors into a space; an item that changed meanwhile waits for its turn: older words must not replace newer."""
        with self._lock:
            same = np.array([self.catalogue.items[row] is item for row, item in some])
            at, said = np.array([row for row, _ in some]), vectors.any(axis=1)
            space.vectors.put(at[same & said], vectors[same & said])
            space.vectors.remove(at[same & ~said])
            space.known.update(pair for pair, good in zip(some, same, strict=True) if good)


def _static() -> bool:
    return available("wordllama") and available("tokenizers")


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.empty(0, np.int32), np.empty(0, np.float32)


def _words(item: Item) -> str:
    """Return what an item says; nothing once it is deleted."""
    if item.deleted:
        return ""
    return "\n".join(part for part in (item.title, ", ".join(item.categories), item.text[:LONGEST]) if part.strip())


def _taste(space: _Space, history: np.ndarray) -> np.ndarray | None:
    """Return the unit vector in the middle of a history; ``None`` where none of it says anything."""
    vectors, known = space.vectors.take(history)
    middle = vectors[known].sum(axis=0)
    length = float(np.linalg.norm(middle))
    return middle / np.float32(length) if length > 0 else None
