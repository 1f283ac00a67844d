"""Words of a text in any script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.retrieval.tokens import tokens


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("--- !", []),
        ("The red_bike, the RED bike; 42!", ["the", "red_bike", "the", "red", "bike", "42"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ﬁne ｗｉｄｅ ①", ["fine", "wide", "1"]),
        ("naïve nai\u0308ve", ["naïve", "naïve"]),
        ("ΣΊΣΥΦΟΣ σίσυφος", ["σίσυφοσ", "σίσυφοσ"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("猫 と犬", ["猫", "と犬"]),
        ("iPhone用ケース", ["iphone", "用ケ", "ケー", "ース"]),
        ("서울 맛집", ["서울", "맛집"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("עִבְרִית العربية", ["עִבְרִית", "العربية"]),
        ("co\u00adoperate می\u200cخواهم ❤\ufe0f", ["cooperate", "میخواهم"]),
    ],
)
def test_by_hand(text: str, wanted: list[str]) -> None:
    assert tokens(text) == [unicodedata.normalize("NFKC", word) for word in wanted]


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    found = tokens(text)
    assert all(found)
    assert tokens(unicodedata.normalize("NFD", text)) == tokens(unicodedata.normalize("NFC", text))


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_short_way_of_plain_text_is_the_long_way(text: str) -> None:
    assert tokens(text) == tokens(text + " é")[:-1]
