"""Hashed encoder: by hand, company, files, likeness, bad input."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palate.errors import BundleError, ConfigError, DataError
from palate.language.encoder import encoder
from palate.language.encoders.hashed import FILE, HashedEncoder, hashed_bags, idf_of_buckets, through_layers
from palate.runtime import set_threads, threads

TEXTS = ["red bicycle", "a green bicycle for children", "cast iron pan", "ünïcode 東京", "word " * 50, "Red  BICYCLE"]
SIZE = {"buckets": 512, "width": 16, "hidden": (12,), "dim": 8}


@pytest.fixture
def own() -> HashedEncoder:
    return HashedEncoder.fresh(np.random.default_rng(0), **SIZE)  # type: ignore[arg-type]


def test_by_hand() -> None:
    table = np.random.default_rng(1).standard_normal((64, 3)).astype(np.float32)
    weight, bias = np.array([[1.0, 2, 3], [0, 1, 0]], np.float32), np.array([0.5, -0.5], np.float32)
    own = HashedEncoder(table, [(weight, bias)], subwords=0)
    two, one = zlib.crc32(b"two") % 64, zlib.crc32(b"one") % 64
    assert two != one
    w = np.array([1 + np.log(2), 1.0])
    x = (w[0] * table[two] + w[1] * table[one]) / np.linalg.norm(w)
    assert np.allclose(own.encode(["two one TWO"], normalize=False)[0], weight @ x + bias, atol=1e-5)


def test_rows_have_length_one_and_runs_count_less() -> None:
    bags = hashed_bags(TEXTS, np.ones(2**16, np.float32), 0.5)
    assert np.allclose(np.sqrt(bags.multiply(bags).sum(1)), 1, atol=1e-6)
    one = hashed_bags(["pan"], np.ones(2**16, np.float32), 0.25)
    word = zlib.crc32(b"pan") % 2**16
    others = np.delete(one.toarray()[0], word)
    assert np.allclose(others[others > 0], 0.25 * one[0, word])


def test_a_text_does_not_depend_on_its_company_to_the_bit_nor_on_threads(own: HashedEncoder) -> None:
    together, before = own.encode(TEXTS * 3), threads()
    assert np.array_equal(together, np.stack([own.encode([text])[0] for text in TEXTS * 3]))
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.array_equal(own.encode([TEXTS[at] for at in order]), own.encode(TEXTS)[order])
    try:
        for count in (1, 2):
            set_threads(count)
            assert np.array_equal(own.encode(TEXTS * 3), together)
    finally:
        set_threads(before)


def test_case_and_spaces_do_not_count_and_blank_texts_are_zero(own: HashedEncoder) -> None:
    v = own.encode([*TEXTS, "", "  ", "!!!"])
    assert np.array_equal(v[0], v[5]) and not v[6:].any()
    assert np.allclose(np.linalg.norm(v[:6], axis=1), 1, atol=1e-5)


def test_an_untouched_encoder_is_a_random_projection_of_the_words() -> None:
    own = HashedEncoder.fresh(np.random.default_rng(0), buckets=4096, width=256, hidden=(), dim=256)
    bags, v = own.bags(TEXTS).toarray(), own.encode(TEXTS)
    assert np.abs(v @ v.T - bags @ bags.T).max() < 0.3
    assert v[0] @ v[1] > v[0] @ v[2] + 0.2


def test_layers_are_those_of_a_network() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    layers = [
        (rng.standard_normal(s).astype(np.float32), rng.standard_normal(s[0]).astype(np.float32)) for s in ((3, 4), (2, 3))
    ]
    plain = np.maximum(x @ layers[0][0].T + layers[0][1], 0) @ layers[1][0].T + layers[1][1]
    assert np.allclose(through_layers(x, layers), plain, atol=1e-5)


def test_idf() -> None:
    idf = idf_of_buckets(["red pan", "red", "blue"], 2**16, subwords=0)
    for word, count in (("red", 2), ("pan", 1), ("never", 0)):
        assert idf[zlib.crc32(word.encode()) % 2**16] == pytest.approx(1 + np.log(4 / (1 + count)))
    with pytest.raises(DataError, match="no text has a word"):
        idf_of_buckets(["", "!"], 16)


def test_files_to_the_bit_and_by_path(own: HashedEncoder, tmp_path: Path) -> None:
    own.save(tmp_path / "enc")
    for back in (HashedEncoder.load(tmp_path / "enc"), encoder(tmp_path / "enc"), HashedEncoder.of_state(own.state())):
        assert isinstance(back, HashedEncoder) and back.fingerprint == own.fingerprint
        assert np.array_equal(back.encode(TEXTS), own.encode(TEXTS))
    other = HashedEncoder.fresh(np.random.default_rng(1), **SIZE)  # type: ignore[arg-type]
    assert other.fingerprint != own.fingerprint


def test_damaged_files_and_wrong_shapes_are_refused(own: HashedEncoder, tmp_path: Path) -> None:
    path = own.save(tmp_path / "enc") / FILE
    whole = load_file(path)
    for change in ({"idf": whole["idf"][:-1]}, {"w1": whole["w0"]}, {"settings": np.array([1], np.uint8)}):
        save_file({**whole, **change}, path)
        with pytest.raises(BundleError):
            HashedEncoder.load(tmp_path / "enc")
    path.write_bytes(b"x")
    with pytest.raises(BundleError):
        HashedEncoder.load(tmp_path / "enc")
    with pytest.raises(ConfigError):
        HashedEncoder(np.zeros((4, 3), np.float32), [])
    with pytest.raises(ConfigError):
        HashedEncoder.fresh(np.random.default_rng(0), buckets=0)
