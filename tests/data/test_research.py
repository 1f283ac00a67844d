"""Research data below ``PALATE_DATA``: every edition there is read whole, by path and by its public name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from palate.data import public
from palate.data.audit import audit
from palate.data.readers import read, read_parts
from palate.errors import DataError

pytestmark = pytest.mark.data

#: Users, items and interactions of every edition, as counted when it was put there.
COUNTS = {
    "ml-100k": (943, 1_682, 100_000),
    "ml-latest-small": (610, 9_724, 100_836),
    "ml-1m": (6_040, 3_416, 999_602),
    "amazon-beauty": (22_363, 12_101, 198_502),
    "amazon-sports": (35_598, 18_357, 296_337),
    "amazon-games": (50_546, 16_859, 440_264),
    "amazon-grocery": (14_681, 8_687, 121_892),
    "amazon-office": (3_231, 3_317, 22_447),
    "amazon-gift-cards": (458, 148, 2_972),
    "lastfm-hetrec-2k": (1_892, 17_632, 92_834),
    "coat": (290, 300, 11_600),
    "gowalla": (29_858, 40_981, 1_027_370),
    "yelp-text": (30_431, 20_033, 316_354),
    "yelp-social": (16_239, 14_284, 198_397),
    "social-epinions": (11_111, 190_774, 239_645),
    "social-ciao": (6_672, 98_875, 192_221),
    "social-filmtrust": (1_508, 2_071, 35_497),
}
Research = Callable[[str], Path]


@pytest.fixture(autouse=True)
def place(palate_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the folder of research data, and let nothing be fetched or taken from the cache."""
    monkeypatch.setenv("PALATE_DATA", str(palate_data))
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("palate.data.public.fetch", lambda *_: pytest.fail("nothing is to be fetched"))
    return palate_data


@pytest.fixture
def research(place: Path) -> Research:
    """Return the path of an edition, or skip."""

    def find(name: str) -> Path:
        if not (place / name).exists():
            pytest.skip(f"{name} is not in PALATE_DATA")
        return place / name

    return find


def test_what_else_lies_there_has_its_published_counts() -> None:
    there = {data.name for data in public.catalogue() if public.find(data.name) is not None}
    for name in sorted(there - set(COUNTS)):
        assert len(public.load(name)) > 0


@pytest.mark.parametrize("name", COUNTS)
def test_counts_by_path(name: str, research: Research) -> None:
    data = read(research(name))
    assert (data.n_users, data.n_items, len(data)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_by_public_name(name: str, research: Research) -> None:
    assert public.get(name) == research(name)
    data = public.load(name)
    assert (data.n_users, data.n_items, len(data), data.name) == (*COUNTS[name], name)


@pytest.mark.parametrize(
    ("name", "train", "test", "users"), [("gowalla", 810_128, 217_242, 29_858), ("coat", 6_960, 4_640, 290)]
)
def test_published_splits(name: str, train: int, test: int, users: int, research: Research) -> None:
    assert {n: len(p) for n, p in read_parts(research(name)).items()} == {"train": train, "test": test}
    made = public.load_split(name)
    assert (len(made.train), len(made.test_part or ()), made.train.n_users) == (train, test, users)
    # Some of Coat's random articles were chosen by the same people too.
    accepted = ["answers-in-train"] if name == "coat" else []
    assert [leak.code for leak in audit(made).leaks] == accepted
    assert made.audit(accept=accepted).leaks == ()


@pytest.mark.parametrize(("name", "raw", "title"), [("ml-100k", 50, "Star Wars"), ("ml-latest-small", 1, "Toy Story (1995)")])
def test_titles_of_real_films(name: str, raw: int, title: str, research: Research) -> None:
    research(name)
    data = read(name)
    assert data.items.labels(np.array([data.items.ids.number(raw)])) == [title]


def test_the_dated_sample_of_ml_1m(research: Research) -> None:
    data = read(research("ml-1m/ratings_sample.csv.gz"))
    assert (data.n_users, data.n_items, len(data)) == (5_958, 3_312, 100_000)
    assert data.interactions.time is not None


def test_ml_100k_in_full(research: Research) -> None:
    data = read(research("ml-100k"))
    assert data.items.labels(data.items.ids.encode(["1"] if data.items.ids.is_text else [1])) == ["Toy Story"]
    assert len(data.graphs["knowledge"]) == 91_631
    assert len(data.graphs["knowledge"].relations) == 24
    assert (data.graphs["knowledge"].item_entity >= 0).sum() == 1598
    days = np.array([data.interactions.time.min(), data.interactions.time.max()], "datetime64[s]").astype("datetime64[D]")
    assert days.astype(str).tolist() == ["1997-09-20", "1998-04-22"]


def test_ml_1m_takes_titles_and_knowledge_along(research: Research) -> None:
    data = read(research("ml-1m"))
    assert data.items.column("title").null_count == 0
    assert len(data.graphs["knowledge"]) == 20_782


def test_lastfm_friends_and_tags(research: Research) -> None:
    data = read(research("lastfm-hetrec-2k"))
    assert len(data.graphs["social"]) == 25_434
    assert len(data.graphs["knowledge"]) == 15_518
    assert (data.graphs["knowledge"].item_entity >= 0).sum() == 3846


def test_links(research: Research) -> None:
    for name, graph, links in (("yelp-social", "social", 158_590), ("yelp-social", "compliments", 76_875)):
        assert len(read(research(name)).graphs[graph]) == links
    assert len(read(research("social-ciao")).graphs["social"]) == 109_503


def test_yelp_has_titles_categories_and_cities(research: Research) -> None:
    text, friends = read(research("yelp-text")), read(research("yelp-social"))
    assert text.items.column("title").null_count == text.items.column("categories").null_count == 0
    assert text.items.labels(np.array([0], np.int32)) == [text.items.column("title")[0].as_py()]
    assert {len(row) for row in friends.items.column("city").to_pylist() if row} == {1}
    assert len({name for row in friends.items.column("categories").to_pylist() for name in row or []}) == 511


def test_goodbooks_lacks_its_ratings(tmp_path: Path, research: Research) -> None:
    folder = research("goodbooks-10k")
    with pytest.raises(DataError, match="no file of the folder"):
        read(folder)
    (tmp_path / "books.csv.gz").symlink_to(folder / "books.csv.gz")
    (tmp_path / "ratings.csv").write_text("user_id,book_id,rating\n1,258,5\n2,4081,4\n")
    data = read(tmp_path, keep_unseen=True)
    assert data.n_items == 10_000
    assert data.items.column("title").null_count == 0
