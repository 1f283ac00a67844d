"""Byte pairs: nothing is unknown, the same texts give the same pieces, and a bundle's array gives them back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from palate.errors import BundleError, ConfigError
from palate.language.byte_pairs import BytePairs

TEXTS = ["red lamp", "red lamps", "blue lamp", "Lamp RED", "teal 東京 lampe"] * 3


def test_common_words_become_pieces_and_case_is_folded() -> None:
    pairs = BytePairs.learn(TEXTS, 300)
    assert len(pairs) <= 300 and pairs.pieces("lamp") == ["Ġlamp"] == pairs.pieces("LAMP")
    found = pairs.encode(["red lamp", "", "RED LAMP", "never seen 大阪 ☂"])
    assert found[0].tolist() == found[2].tolist() and len(found[1]) == 0 and len(found[3]) > 5
    assert found.values.dtype == np.int32 and found.values.max() < len(pairs)


def test_the_order_of_texts_says_nothing() -> None:
    first, second = BytePairs.learn(TEXTS, 320), BytePairs.learn(TEXTS[::-1], 320)
    assert first.text == second.text


def test_kept_and_given_back() -> None:
    pairs = BytePairs.learn(TEXTS, 300)
    again = BytePairs.of_array(pairs.array())
    assert again.encode(TEXTS).tolist() == pairs.encode(TEXTS).tolist() and len(again) == len(pairs)


def test_wrong_input() -> None:
    with pytest.raises(ConfigError, match="fewer pieces"):
        BytePairs.learn(TEXTS, 100)
    with pytest.raises(BundleError, match="no byte pairs"):
        BytePairs("{}")
