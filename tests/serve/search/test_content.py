"""Vectors of what items say: they follow the catalogue, little at once, much beside the requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.language.encoder import TextEncoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.search import content
from palate.serve.search.content import Content
from palate.serve.settings import SearchSettings

#: What "sofa" and "couch", "bike" and "bicycle" have to do with each other.
TEXTS = [*["sofa couch seat cushion"] * 3, *["bike bicycle wheel pedal"] * 3, *["kettle teapot tea"] * 3]


class Shop:
    """A store's side of a catalogue: items with revisions."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Item]] = []
        self.catalogue = Catalogue()

    def items_after(self, revision: int, limit: int) -> Sequence[tuple[int, Item]]:
        return [row for row in self.rows if row[0] > revision][:limit]

    def put(self, *items: Item) -> None:
        self.rows += [(len(self.rows) + 1 + at, item) for at, item in enumerate(items)]
        self.catalogue.refresh(self)


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    titles = ("Couch, seat", "Bicycle wheel", "Teapot", "")
    made.put(*(Item(f"i{n}", title=title) for n, title in enumerate(titles)))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder that knows which words go together, saved."""
    return str(TfidfEncoder(dim=3, subwords=0).fit(TEXTS).save(tmp_path_factory.mktemp("encoder")))


@pytest.fixture
def follow(folder: str) -> Callable[..., Content]:
    """Return a function that makes vectors of a shop's catalogue; all are closed at the end."""
    made: list[Content] = []

    def make(shop: Shop, encoder: str = folder, **more: float) -> Content:
        made.append(Content(shop.catalogue, SearchSettings(encoder=encoder, **more)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def found(own: Content, text: str) -> list[str]:
    return [own.catalogue.items[row].id for row in own.search(text, 10)[0].tolist()]


def test_meaning_follows_the_catalogue(shop: Shop, follow: Callable[..., Content]) -> None:
    own = follow(shop)
    assert found(own, "sofa") == ["i0"] and found(own, "bike") == ["i1"] and found(own, "nothing of that") == []
    shop.put(Item("i4", title="", categories=("Couch",)), Item("i5", text="a pedal"))
    assert set(found(own, "sofa")) == {"i0", "i4"} and set(found(own, "bike")) == {"i1", "i5"}
    shop.put(replace(shop.catalogue.items[0], title="Tea"), replace(shop.catalogue.items[4], available=False))
    assert found(own, "sofa") == [] and set(found(own, "kettle")) == {"i0", "i2"}
    shop.put(replace(shop.catalogue.items[4], available=True), replace(shop.catalogue.items[2], deleted=True))
    assert found(own, "sofa") == ["i4"] and found(own, "kettle") == ["i0"]


def test_only_what_says_something_else_is_encoded(
    shop: Shop, follow: Callable[..., Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, asked = follow(shop), []
    found(own, "sofa")
    plain = TfidfEncoder.encode
    monkeypatch.setattr(TfidfEncoder, "encode", lambda self, texts: asked.append(list(texts)) or plain(self, texts))
    shop.put(replace(shop.catalogue.items[0], price=3.0), Item("i9", title="Tea"))
    found(own, "bike")
    assert asked == [["Tea"], ["bike"]]


def test_likeness_by_content(shop: Shop, follow: Callable[..., Content]) -> None:
    own = follow(shop)
    shop.put(Item("i4", title="Sofa"), Item("i5", title="Pedal"), Item("i6", title="Tea"))
    rows, likeness = own.similar(4, 10)
    assert rows.tolist() == [0] and likeness[0] == pytest.approx(1.0, abs=1e-3)
    assert own.similar(3, 10)[0].tolist() == []  # it says nothing
    history = np.array([0, 3, 1], np.int32)
    assert set(own.nearest(history, 10)[0].tolist()) == {0, 1, 4, 5}
    assert set(own.among(history, np.array([4, 5, 6]))[0].tolist()) == {4, 5}
    parts = own.parts(history, 4)
    vectors, _ = own.vectors(np.array([0, 1, 4]))
    middle = vectors[:2].sum(0) / np.linalg.norm(vectors[:2].sum(0))
    assert parts is not None and parts.sum() == pytest.approx(float(middle @ vectors[2]), abs=1e-6) and parts[1] == 0
    assert own.parts(np.array([3]), 4) is None and own.parts(history, 3) is None


def test_likeness_is_0_for_unrelated_texts_and_1_for_the_same(
    shop: Shop, follow: Callable[..., Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder for which any two texts have a cosine of a half or more finds what another finds, as likely."""

    class Leaning(TextEncoder):
        name, dim, cached, own = "leaning", 4, False, TfidfEncoder(dim=3, subwords=0).fit(TEXTS)

        def _encode(self, texts: list[str]) -> np.ndarray:
            plain = self.own.encode(texts)
            return np.concatenate([plain, np.any(plain, axis=1, keepdims=True)], axis=1).astype(np.float32)

    monkeypatch.setattr(content, "UNRELATED", ("sofa", "bike", "kettle"))
    own, leaning = follow(shop), follow(shop)
    leaning._made = Leaning()
    plain = own.search("sofa", 10)
    found = leaning.search("sofa", 10)
    assert plain[0].tolist() == found[0].tolist() == [0]
    np.testing.assert_allclose(found[1], plain[1], atol=1e-5)


def test_words_that_the_encoder_never_met_mean_nothing_to_it(shop: Shop, follow: Callable[..., Content]) -> None:
    """By runs of characters a strange word may point at one text alone; how little of it is known keeps it away."""
    own = follow(shop, "tfidf")
    assert found(own, "bicycles") == ["i1"] and found(own, "greyhounds couching teamwork nowhere") == []
    assert "tfidf, 3 items" in own.words


def test_a_fitted_encoder_is_fitted_anew_as_the_catalogue_grows(shop: Shop, follow: Callable[..., Content]) -> None:
    own = follow(shop, "tfidf")
    assert found(own, "saxophone") == []
    shop.put(*(Item(f"n{n}", title=f"Saxophone {n}") for n in range(8)))
    assert len(found(own, "saxophone")) in (0, 8)  # what came may still wait for the fit, which the next question makes
    assert len(found(own, "saxophone")) == 8 and found(own, "bicycle") == ["i1"]


def test_many_items_are_encoded_beside_the_requests(
    shop: Shop, follow: Callable[..., Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "AT_ONCE", 10)
    monkeypatch.setattr(content, "BLOCK", 16)
    shop.put(*(Item(f"n{n}", title=f"Sofa {n}") for n in range(100)))
    gate, plain, who = threading.Event(), TfidfEncoder.encode, set()

    def slow(self: TfidfEncoder, texts: list[str], **more: object) -> np.ndarray:
        who.add(threading.current_thread().name)
        assert gate.wait(10)
        return plain(self, texts, **more)

    monkeypatch.setattr(TfidfEncoder, "encode", slow)
    own = follow(shop)
    assert found(own, "bike") == [] and own.words == "vectors are being made"  # nobody waits
    shop.put(replace(shop.catalogue.items[1], title="Teapot, black"))  # after its old words were read, perhaps
    gate.set()
    own._maker.submit(lambda: None).result(10)
    assert found(own, "bike") == [] and set(found(own, "tea")) == {"i1", "i2"}
    assert len(own.search("couch", 200)[0]) == 101 and any(name.startswith("palate-content") for name in who)


def test_trouble_leaves_words_and_is_over_when_something_changes(
    shop: Shop, follow: Callable[..., Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = follow(shop)
    with monkeypatch.context() as patch:
        patch.setattr(TfidfEncoder, "encode", lambda self, texts: 1 / 0)
        assert own.search("sofa", 5)[0].tolist() == [] and own.words == "no vectors: ZeroDivisionError"
    assert own.search("sofa", 5)[0].tolist() == []
    shop.put(Item("i7", title="Tea"))
    assert found(own, "sofa") == ["i0"]


def test_off_and_what_is_not_there(shop: Shop, follow: Callable[..., Content], tmp_path: Path) -> None:
    own = follow(shop, "off")
    assert own.off and own.words == "off" and found(own, "couch") == [] and own.vectors(np.array([0])) is None
    with pytest.raises(ConfigError, match="minilm"):
        follow(shop, "minilmm")
    with pytest.raises(ConfigError, match="no such encoder"):
        follow(shop, str(tmp_path / "absent"))


def test_a_catalogue_without_words(follow: Callable[..., Content]) -> None:
    bare = Shop()
    bare.put(Item("i0"), Item("i1", title="?!"))
    own = follow(bare, "tfidf")
    assert found(own, "anything") == []
    bare.put(Item("i2", title="Anything"))
    assert found(own, "anything") == ["i2"]
