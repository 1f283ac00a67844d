"""Search in the texts of the catalogue, kept up to date as items come, change and go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.retrieval.bm25 import BM25
from palate.serve.catalogue import Catalogue, Item

#: How much a word counts by where it stands.
WEIGHTS = {"title": 3.0, "categories": 2.0, "text": 1.0}


class TextIndex:
    """BM25 over title, categories and text of what may be shown; document numbers are rows of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.index = catalogue, BM25(WEIGHTS)
        self._known: dict[int, Item] = {}
        catalogue.listen(self._changed)

    def search(self, text: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores of the best matches."""
        rows, scores = self.index.search(text, limit)
        good = rows[0] >= 0
        return rows[0][good], scores[0][good]

    def _changed(self, rows: Sequence[int]) -> None:
        gone, come = [], []
        for row in rows:
            item, known = self.catalogue.items[row], self._known.get(row)
            if known is not None and (not item.shown or _words(item) != _words(known)):
                gone.append(row)
                del self._known[row]
            if item.shown and row not in self._known:
                come.append(row)
                self._known[row] = item
        if gone:
            self.index.remove(gone)
        if come:
            texts = [_words(self.catalogue.items[row]) for row in come]
            self.index.add(come, {name: [text[name] for text in texts] for name in WEIGHTS})


def _words(item: Item) -> dict[str, str]:
    return {"title": item.title, "categories": " ".join(item.categories), "text": item.text}
