"""Profiles by template: what they say, how long they are, and how their paraphrases differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Entities
from palate.data.histories import Histories
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.language.failures import LanguageModelError
from palate.language.model import Answer, LanguageModel
from palate.language.profile_sentences import ProfileForm
from palate.language.profiles import Writer, item_profiles, user_profiles, with_given


def things(**columns: list[Any]) -> Entities:
    n = len(next(iter(columns.values())))
    return Entities(Vocabulary.range(n), pa.table(columns))


FILMS = things(
    title=["Alien", "Heat", "", "Up"],
    categories=[["horror", "sci-fi"], ["crime"], [], ["family", "sci-fi"]],
    director=["Scott", "Mann", None, "Docter"],
)


def of(*histories: list[int]) -> Histories:
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    return Histories(offsets, np.array([item for history in histories for item in history], np.int32))


def test_the_plain_form_word_by_word():
    made = item_profiles(FILMS)
    assert made.texts[0] == "Alien. Suits people who enjoy horror, sci-fi. By Scott."
    assert made.texts[2] == "" and made.sources[2] == "nothing"
    assert made.sources[0] == "template" and not made.refused


def test_given_profiles_stand_in_where_there_are_any():
    films = things(title=["Alien", "Heat", "Up"], about_it=["A  ship\nin space.", None, " "])
    ours = item_profiles(films)
    found = with_given(ours, films, "about_it")
    assert found.texts == ["A ship in space.", *ours.texts[1:]] and found.names == ours.names
    assert found.sources == ["given", "template", "template"]
    assert found.counts == {**ours.counts, "template": 2, "given": 1} and "given" not in ours.counts
    assert with_given(ours, films, "missing") is ours


def test_an_answer_that_copies_the_prompts_marks_is_refused():
    class Parrot(LanguageModel):
        name = fingerprint = "parrot"

        def answer(self, call):
            return Answer(call.messages[-1].content)

    made = item_profiles(things(title=["Alien"]), writer=Writer(Parrot()))
    assert made.sources == ["template"] and made.refused == {0: "it repeats the marks around what it was given"}


def test_the_first_of_many_errors_is_told_part_by_part():
    class Spent(LanguageModel):
        name = fingerprint = "spent"

        def answer(self, call):
            raise LanguageModelError("no call is left.", where="max_calls", value=7, remedy="raise the limit")

    with pytest.raises(LanguageModelError) as caught:
        item_profiles(things(title=["Alien", "Brazil"]), writer=Writer(Spent()))
    told = caught.value
    assert told.what == "2 of 2 profiles were not written; the first: no call is left."
    assert (told.where, told.value, told.remedy) == ("spent, max_calls", 7, "raise the limit")


def test_topics_are_weighed_by_how_often_times_how_rare():
    kinds = [["a"], ["a"], ["a"], ["a", "b"], ["b"], ["c"], ["d"], ["e"]]
    items = item_profiles(things(title=[f"t{n}" for n in range(8)], categories=kinds))
    often, once = user_profiles(of([0, 1, 3], [3]), items).texts
    assert often.startswith("Enjoys a, b.") and once.startswith("Enjoys b, a."), "3 ln 2 > ln 4 > ln 2"


def test_a_person_is_told_with_what_was_lately_chosen():
    items = item_profiles(FILMS)
    made = user_profiles(of([0, 3], [1], []), items)
    assert made.texts[0] == "Enjoys family, horror, sci-fi. Chose lately: Up; Alien."
    assert made.texts[1] == "Enjoys crime. Chose lately: Heat."
    assert made.texts[2] == "" and made.sources[2] == "nothing"


def test_one_request_is_told_as_in_company():
    items = item_profiles(FILMS)
    form = ProfileForm(version=2, seed=5)
    together = user_profiles(of([0, 3], [1, 0], [3]), items, form)
    assert user_profiles(of([1, 0]), items, form).texts == [together.texts[1]]
    chosen = user_profiles(of([0, 3], [1, 0], [3]), items, form, users=np.array([2, 0]))
    assert chosen.texts == [together.texts[2], together.texts[0]]


def test_versions_are_other_words_for_the_same_facts_and_repeat():
    texts = {version: item_profiles(FILMS, ProfileForm(version=version, seed=1)).texts for version in range(4)}
    for row in (0, 1, 3):
        assert len({texts[version][row] for version in texts}) == 4
        assert all(FILMS.column("title")[row].as_py() in texts[version][row] for version in texts)
    assert texts[2] == item_profiles(FILMS, ProfileForm(version=2, seed=1)).texts
    assert texts[2] != item_profiles(FILMS, ProfileForm(version=2, seed=2)).texts


def test_lengths_are_bounded():
    long = things(title=["x" * 50], description=["word " * 30_000])
    text = item_profiles(long, ProfileForm(max_chars=120)).texts[0]
    assert len(text) <= 120
    many = things(title=[f"t{n}" for n in range(30)], categories=[[f"c{n}"] for n in range(30)])
    told = user_profiles(of(list(range(30))), item_profiles(many), ProfileForm(max_items=3, max_topics=2)).texts[0]
    assert told.count(";") == 2 and told.count("c") >= 2 and told.startswith("Enjoys c")


def test_lists_in_one_text_are_parted_and_braces_are_text():
    made = item_profiles(things(title=["{0} {name}"], genres=["Action|Comedy"]))
    assert made.topics[0] == ["Action", "Comedy"]
    assert made.texts[0].startswith("{0} {name}.")


def test_words_stand_in_where_there_are_no_topics():
    made = item_profiles(things(title=["space war", "space peace", "garden", "garden tools", "a b"]))
    assert made.topics[0] == ["space"] and made.topics[2] == ["garden"] and made.topics[4] == []


def test_refusals_say_what_and_where():
    with pytest.raises(DataError, match="no attribute says what an item is"):
        item_profiles(things(size=[1, 2]))
    with pytest.raises(DataError, match="no profile"):
        user_profiles(of([9]), item_profiles(FILMS))
    for wrong in ({"max_items": 0}, {"version": -1}):
        with pytest.raises(ConfigError):
            ProfileForm(**wrong)
