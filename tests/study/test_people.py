"""People: their history, what is offered, and why, by title."""

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity
from palate.study.people import person, pick_people

TITLES = ["Alien", "Brazil", "Clue", "Dune", "Eraserhead"]


def world():
    user, item = [0, 0, 1, 1, 1, 2, 2, 3, 3, 3], [0, 1, 0, 1, 2, 0, 2, 1, 2, 3]
    data = Dataset.from_columns([f"u{u}" for u in user], item, time=np.arange(10))
    items = Entities(data.items.ids, pa.table({"title": TITLES[:4]}))
    return data.derive({"step": "titles"}, items=items)


def test_history_offers_and_reasons_by_title():
    model = EASE(reg=1.0).fit(world())
    page = person(model, "u0", k=2, last=1)
    assert page["events"] == 2
    assert page["history"] == ["Brazil"], "the latest first"
    assert [offer["title"] for offer in page["offers"]] == ["Clue", "Dune"]
    assert page["offers"][0]["score"] >= page["offers"][1]["score"]
    assert "because of" in page["offers"][0]["why"]
    assert "Alien" in page["offers"][0]["why"] or "Brazil" in page["offers"][0]["why"]
    assert not page["cold"]


def test_popular_items_say_how_often_they_were_chosen():
    page = person(Popularity().fit(world()), "u0", k=2)
    assert page["offers"][0].items() >= {"title": "Clue", "score": 3.0, "why": "chosen 3 times by others"}.items()


def test_a_stranger_is_an_ordinary_case():
    page = person(EASE(reg=1.0).fit(world()), "nobody", k=3)
    assert page["events"] == 0
    assert page["history"] == []
    assert page["cold"]
    assert len(page["offers"]) == 3


def test_people_with_a_history_are_picked():
    lengths = np.array([1, 9, 3, 12, 8, 20])
    picked = pick_people(lengths, 3, np.random.default_rng(0))
    assert len(set(picked)) == 3
    assert all(lengths[row] >= 8 for row in picked)
    assert pick_people(np.array([1, 2, 3]), 2, np.random.default_rng(0)) == [1, 2], "the longest, where few have enough"
