"""A small world for models with a known answer: people, items, a repeat, an item and a person without events."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary

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


@pytest.fixture(scope="session")
def tied() -> Dataset:
    """Two tastes, with ties mostly inside them: mutual and one-way ones, a person without ties (0), one without events (59)."""
    people, half, rng = 60, 12, np.random.default_rng(3)
    rows = [rng.choice(half, 5, replace=False) + half * (u % 2) for u in range(people - 1)]
    user, item = np.repeat(np.arange(people - 1), 5), np.concatenate(rows)
    value = rng.integers(1, 6, len(user))
    whole = Dataset.from_columns(np.append(user, people - 1), np.append(item, 0), value=np.append(value, 3))
    kept = np.flatnonzero(whole.interactions.user != whole.users.ids.number(people - 1))
    head, tail = (rng.integers(1, people - 1, 400) for _ in range(2))
    alike = (head % 2 == tail % 2) | (rng.random(400) < 0.1)
    ends = np.stack([head[alike & (head != tail)], tail[alike & (head != tail)]]).astype(np.int32)
    ends = np.hstack([ends, ends[::-1, :80], [[2, people - 1], [2, 4]]]).astype(np.int32)
    ties = Graph(ends[0], np.zeros(ends.shape[1], np.int32), ends[1], "user", "user", Vocabulary(pa.array(["knows"])))
    return whole.derive({"step": "ties"}, interactions=whole.interactions.take(kept), graphs={"social": ties})


@pytest.fixture(scope="session")
def untied(tied: Dataset) -> Dataset:
    """The same without a social network."""
    return tied.derive({"step": "no ties"}, graphs={})


@pytest.fixture(scope="session")
def finds_tastes(tied: Dataset) -> Callable[[Recommender], None]:
    """Check that known and unseen people are offered items of their own taste."""

    def check(model: Recommender) -> None:
        users, raw = np.arange(tied.n_users - 1, dtype=np.int32), tied.items.ids.raw.to_numpy()
        known = Requests.of_users(tied, users)
        unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
        for asked in (known, unseen):
            offered = raw[model.recommend(asked, 3).items]
            assert ((offered >= 12) == (users % 2 == 1)[:, None]).mean() > 0.9

    return check
