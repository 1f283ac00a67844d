"""The protocol that holds items out."""

from __future__ import annotations

import numpy as np

from palate.data.dataset import Dataset
from palate.data.protocols.cut import check_at_least, check_shares, cut, dealt
from palate.data.split import Split


def held_out_items(dataset: Dataset, *, seed: int = 0, valid: float = 0.1, test: float = 0.1, min_events: int = 5) -> Split:
    """Keep some items out of training, and ask for what people did with them: who can recommend what nobody has had yet?

    The items keep their numbers, attributes and texts, and stand in the catalogue beside the others at the test.

    Parameters
    ----------
    valid, test
        Shares of the items that have at least ``min_events`` events; which they are is random.
    min_events
        Items with fewer events stay in training (at least 1).
    """
    check_shares(valid, test)
    check_at_least(min_events, 1, "min_events")
    events = dataset.interactions
    counts = np.bincount(events.item, minlength=dataset.n_items)
    part = dealt(counts, min_events, valid, test, "held_out_items", seed)
    options = {"valid": valid, "test": test, "min_events": min_events}
    return cut(dataset, part[events.item], "held_out_items", seed, options)
