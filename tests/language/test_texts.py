"""Texts of items and people: which columns, in which order, how long; a person's text knows the history passed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.language.texts import ItemTexts, UserTexts, cut, item_texts, text_columns, titles, user_texts

TABLE = pa.table(
    {
        "price": [1.5, 2.0, None, 3.0],
        "text": ["A blade runner  must\npursue\0replicants", None, "", "Toys!"],
        "categories": pa.array([["Sci-Fi", None, "Thriller"], [], None, ["Animation", ""]]),
        "asin": ["B0", "B1", "B2", "B3"],
        "title": ["Blade Runner", "Alien", None, "Toy Story?"],
        "also_buy": pa.array([["B1"], [], [], []]),
        "year": [1982, 1979, 1990, 1995],
    }
)


def entities(table: pa.Table = TABLE) -> Entities:
    return Entities(Vocabulary.of(pa.array([f"i{n}" for n in range(table.num_rows)]))[0], table)


def test_columns_that_tell_what_an_item_is() -> None:
    assert text_columns(entities()) == ("title", "categories", "text")
    kinds = pa.table(
        {"genre": pa.array(["a", "b"]).dictionary_encode(), "tags": pa.array([["x"], []], pa.large_list(pa.large_string()))}
    )
    assert text_columns(entities(kinds)) == ("genre", "tags")
    assert item_texts(entities(kinds)) == ["Genre: a. Tags: x.", "Genre: b."]
    assert text_columns(entities(pa.table({"title": [1, 2]}))) == ()
    assert text_columns(Entities(Vocabulary.range(3))) == () and item_texts(Entities(Vocabulary.range(3))) == ["", "", ""]


def test_texts_by_hand() -> None:
    assert item_texts(entities()) == [
        "Blade Runner. Categories: Sci-Fi, Thriller. Text: A blade runner must pursue replicants.",
        "Alien.",
        "",
        "Toy Story? Categories: Animation. Text: Toys!",
    ]
    plain = ItemTexts(columns=("categories", "title"), labels=False)
    assert item_texts(entities(), plain) == ["Sci-Fi, Thriller. Blade Runner.", "Alien.", "", "Animation. Toy Story?"]


def test_lengths_are_bounded_at_the_end_of_a_word() -> None:
    long = entities(pa.table({"title": ["word " * 1000, "x" * 5000], "tags": [[f"t{n}" for n in range(99)], []]}))
    texts = item_texts(long, ItemTexts(max_chars=100, max_column=60))
    assert all(len(text) <= 100 for text in texts) and texts[0].startswith("word word") and texts[0][:59].count("word") == 12
    assert texts[1] == "x" * 60 + "."
    assert item_texts(long, ItemTexts(columns=("tags",), max_values=2)) == ["Tags: t0, t1.", ""]
    assert (
        cut("ab cd", 5) == "ab cd" and cut("ab cde", 5) == "ab" and cut("ab cd e", 5) == "ab cd" and cut("abcdef", 3) == "abc"
    )


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'title'"):
        item_texts(entities(), ItemTexts(columns=("titel",)))
    with pytest.raises(DataError, match="no text"):
        item_texts(entities(), ItemTexts(columns=("price",)))
    with pytest.raises(DataError, match="no attributes"):
        item_texts(Entities(Vocabulary.range(2)), ItemTexts(columns=("title",)))
    for form in ({"max_chars": 0}, {"max_values": -1}):
        with pytest.raises(ConfigError):
            ItemTexts(**form)
    with pytest.raises(ConfigError):
        UserTexts(max_items=0)


def test_titles_fall_back_to_raw_ids() -> None:
    assert titles(entities()) == ["Blade Runner", "Alien", "i2", "Toy Story?"]
    assert titles(Entities(Vocabulary.range(2))) == ["0", "1"]


NAMES = ["zero", "one", "two", "three"]


def test_people_by_hand() -> None:
    histories = Histories.from_rows([[0, 1, 2], [], [3, 1, 3, 1]])
    assert user_texts(histories, NAMES) == ["two; one; zero", "", "one; three"]
    oldest = UserTexts(max_items=2, newest_first=False, separator=", ")
    assert user_texts(histories, NAMES, oldest) == ["one, two", "", "three, one"]
    assert user_texts(histories, NAMES, users=np.array([2, -1, 0])) == ["one; three", "", "two; one; zero"]
    assert user_texts(histories, ["", "one", "", "three"]) == ["one", "", "one; three"]


def test_the_text_of_a_person_is_bounded_and_leaves_the_oldest_out() -> None:
    histories = Histories.from_rows([[0, 1, 2, 3]])
    assert user_texts(histories, NAMES, UserTexts(max_chars=10)) == ["three; two"]
    assert user_texts(histories, NAMES, UserTexts(max_chars=9)) == ["three"]
    assert user_texts(histories, [*NAMES[:3], "a long name"], UserTexts(max_chars=8)) == ["a long"]


def test_held_out_events_are_not_in_the_text(small_split: Split) -> None:
    train = replace(
        small_split.train, items=Entities(small_split.train.items.ids, pa.table({"title": ["a", "b", "c", "d", "e"]}))
    )
    assert user_texts(train) == ["b; a", "c; a", "d; b", "e; a"]
    asked = small_split.held_out("valid")
    assert user_texts(asked.histories, titles(train)) == ["b; a", "c; a", "d; b", "e; a"]


def test_histories_without_names_and_items_without_a_name() -> None:
    with pytest.raises(ConfigError, match="titles"):
        user_texts(Histories.from_rows([[0]]))
    for rows in ([[4]], [[-1]]):
        with pytest.raises(DataError, match="no name"):
            user_texts(Histories.from_rows(rows), NAMES)


@pytest.mark.data
@pytest.mark.parametrize(("name", "begin"), [("ml-100k", "Toy Story. Categories: "), ("amazon-office", "HP 74 Black & 75")])
def test_real_items(name: str, begin: str, palate_data: Path) -> None:
    from palate.data.readers import read

    data: Dataset = read(palate_data / name)
    texts = item_texts(data)
    assert len(texts) == data.n_items and max(map(len, texts)) <= 1000
    assert any(text.startswith(begin) for text in texts)
    assert np.mean([bool(text) for text in texts]) > 0.95
    assert user_texts(data)[0]
