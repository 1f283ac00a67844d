"""A small world for models with a known answer: people, items, a repeat, an item and a person without events."""

from collections.abc import Callable

import numpy as np
import pytest

from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset

USERS, ITEMS, DAY = 30, 12, 86_400


@pytest.fixture(scope="session")
def events() -> Dataset:
    """Thirty people, twelve items; nobody had item 11, and person 29 had nothing; times rise by a day."""
    rng = np.random.default_rng(5)
    user, item = np.nonzero(rng.random((USERS - 1, ITEMS - 1)) < np.linspace(0.1, 0.6, ITEMS - 1))
    user, item = np.append(user, [user[0], USERS - 1]), np.append(item, [item[0], ITEMS - 1])
    whole = Dataset.from_columns(user, item, time=1_600_000_000 + DAY * rng.permutation(len(user)))
    had = whole.interactions
    kept = np.flatnonzero(had.item != had.item[had.user == whole.users.ids.number(USERS - 1)][0])
    made = whole.derive({"step": "one item and one person without events"}, interactions=had.take(kept))
    assert (made.item_counts == 0).sum() == 1 and (made.histories.lengths == 0).sum() == 1
    return made


@pytest.fixture(scope="session")
def ones(events: Dataset) -> np.ndarray:
    """``float64[users, items]``: 1 where somebody had something."""
    dense: np.ndarray = events.matrix().toarray().astype(np.float64)
    return dense


@pytest.fixture(scope="session")
def unseen(events: Dataset) -> Requests:
    """People unknown in training: one item, several in another order with a repeat, one that nobody had."""
    silent = int(np.flatnonzero(events.item_counts == 0)[0])
    return Requests.of_histories([[3], [7, 2, 5, 2], [0, silent, 1]])


@pytest.fixture(scope="session")
def all_scores() -> Callable[[Recommender, Requests], np.ndarray]:
    """Scores of the whole catalogue."""
    return lambda model, asked: model.score(asked, np.tile(np.arange(model.n_items, dtype=np.int32), (len(asked), 1)))


@pytest.fixture(scope="session")
def sums_up() -> Callable[[Recommender, Requests], None]:
    """Check that every explanation is exact and made of the history."""

    def check(model: Recommender, asked: Requests) -> None:
        for row in range(len(asked)):
            one = asked.take(np.array([row]))
            for item in range(model.n_items):
                why = model.explain(one, item)
                score = model.score(one, np.array([[item]], np.int32))[0, 0]
                assert why.exact and why.score == pytest.approx(score, rel=1e-4, abs=1e-6)
                assert sum(e.weight for e in why.evidence) + why.rest == pytest.approx(why.score, rel=1e-4, abs=1e-6)
                assert {e.subject for e in why.evidence if e.kind == "history"} <= set(one.histories.items.tolist())
                weights = [abs(e.weight) for e in why.evidence]
                assert weights == sorted(weights, reverse=True)

    return check
