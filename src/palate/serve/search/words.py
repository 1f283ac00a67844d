"""Search in the texts of the catalogue, brought up to date when somebody searches."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from palate.retrieval.bm25 import BM25
from palate.serve.memory.catalogue import Catalogue, Item

#: How much a word counts by where it stands.
WEIGHTS = {"title": 3.0, "categories": 2.0, "text": 1.0}


class TextIndex:
    """BM25 over title, categories and text of what may be shown; document numbers are rows of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.index = catalogue, BM25(WEIGHTS)
        self._known: dict[int, Item] = {}
        self._waiting: set[int] = set()
        self._lock = threading.Lock()
        catalogue.listen(self._changed)

    def search(self, text: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores of the best matches."""
        self.catch_up()
        rows, scores = self.index.search(text, limit)
        good = rows[0] >= 0
        return rows[0][good], scores[0][good]

    def catch_up(self) -> None:
        """Take up what changed in the catalogue since the last time; whoever searches first waits for it."""
        with self._lock:
            rows, self._waiting = sorted(self._waiting), set()
            gone = [row for row in rows if row in self._known and self._differs(row)]
            for row in gone:
                del self._known[row]
            come = [row for row in rows if row not in self._known and self.catalogue.items[row].shown]
            self._known.update((row, self.catalogue.items[row]) for row in come)
            if gone:
                self.index.remove(gone)
            if come:
                texts = [_words(self._known[row]) for row in come]
                self.index.add(come, {name: [text[name] for text in texts] for name in WEIGHTS})

    def _differs(self, row: int) -> bool:
        """Say whether an item that is in the index should be taken out, or put in anew."""
        item, known = self.catalogue.items[row], self._known[row]
        return not item.shown or _words(item) != _words(known)

    def _changed(self, rows: Sequence[int]) -> None:
        self._waiting = self._waiting | set(rows)


def _words(item: Item) -> dict[str, str]:
    return {"title": item.title, "categories": " ".join(item.categories), "text": item.text}
