"""TF-IDF and truncated SVD: the formulas by hand, the exact SVD, unseen words, files, and whether it knows likeness."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palate.errors import BundleError, ConfigError, DataError, NotFittedError
from palate.language.encoder import encoder
from palate.language.encoders.tfidf import FILE, MARK, TfidfEncoder, features

FILMS = [
    "space opera with starships and aliens",
    "aliens attack a starship in deep space",
    "a starship crew explores space",
    "romantic comedy about a wedding",
    "a wedding planner falls in love, a romantic tale",
    "love and comedy in Paris",
]


def test_weights_by_hand() -> None:
    own = TfidfEncoder(dim=3, subwords=0).fit(["a a b", "b", "c b"])
    idf = {word: 1 + math.log(4 / (1 + n)) for word, n in {"a": 1, "b": 3, "c": 1}.items()}
    assert list(own.names_) == ["a", "b", "c"]
    assert np.allclose(own.idf_, list(idf.values()))
    rows = np.array([[(1 + math.log(2)) * idf["a"], idf["b"], 0], [0, idf["b"], 0], [0, idf["b"], idf["c"]]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    _, _, right = np.linalg.svd(rows)
    found = own.encode(["a a b", "b", "c b"], normalize=False)
    assert np.allclose(np.abs(found), np.abs(rows @ right.T), atol=1e-5)
    assert np.allclose(found @ found.T, rows @ rows.T, atol=1e-5)


@pytest.mark.parametrize("subwords", [0, 0.5])
def test_words_taken_apart_once_give_the_features_of_each_text(subwords: float) -> None:
    """The plain way: count the features of each text by itself."""
    rng = np.random.default_rng(0)
    words = ["aaaaaaa", "aa", "ab", "starship", "starships", "ÀÉ", "日本語の", "x1", "?"]
    texts = [" ".join(rng.choice(words, size=rng.integers(0, 12))) for _ in range(5_000)]
    own = TfidfEncoder(dim=2, subwords=subwords, max_features=25).fit(texts)
    counted = [Counter(features(text, subwords > 0)) for text in texts]
    among = Counter(feature for row in counted for feature in row)
    assert list(own.names_) == sorted(sorted(among, key=lambda feature: (-among[feature], feature))[:25])
    assert np.allclose(own.idf_, [1 + math.log(5_001 / (1 + among[feature])) for feature in own.names_])
    weighted = own._matrix(texts[:50]).toarray()
    for row, counts in zip(weighted, counted, strict=False):
        share = {f: (1 + math.log(c)) * (subwords if f[0] == MARK else 1) for f, c in counts.items() if f in own.names_}
        expected = np.array([share.get(f, 0) * idf for f, idf in zip(own.names_, own.idf_, strict=True)])
        assert np.allclose(row, expected / max(np.linalg.norm(expected), 1e-12), atol=1e-6)


def test_directions_are_those_of_the_exact_svd_on_more_texts() -> None:
    rng = np.random.default_rng(0)
    mix = rng.dirichlet(np.full(8, 0.1), 400) @ rng.dirichlet(np.full(300, 0.05), 8)
    texts = [" ".join(f"w{word}" for word in rng.choice(300, 30, p=row / row.sum())) for row in mix]
    own = TfidfEncoder(dim=8, subwords=0).fit(texts)
    full = own._matrix(texts).toarray()
    left, sizes, _ = np.linalg.svd(full.astype(np.float64), full_matrices=False)
    exact = left[:, :8] * sizes[:8]
    found = own.encode(texts, normalize=False)
    assert np.allclose(np.linalg.norm(found, axis=0), sizes[:8], rtol=1e-3)
    assert np.abs(found @ found.T - exact @ exact.T).max() < 0.02
    assert np.allclose(own.vectors_.T @ own.vectors_, np.eye(8), atol=1e-4)


def test_likeness() -> None:
    own = TfidfEncoder(dim=4).fit(FILMS)
    v = own.encode(["aliens and starships", "space", "love at a wedding"])
    assert v[0] @ v[1] > 0.6 and v[0] @ v[2] < 0.3


def test_words_that_were_never_seen_get_their_place_from_their_parts() -> None:
    own, words_alone = TfidfEncoder(dim=4).fit(FILMS), TfidfEncoder(dim=4, subwords=0).fit(FILMS)
    v = own.encode(["starshp", "starship", "weddings", "wedding"])
    assert v[0] @ v[1] > 0.7 and v[2] @ v[3] > 0.7 and v[0] @ v[3] < 0.4
    assert not words_alone.encode(["starshp"]).any()
    assert not own.encode(["zzzz qqqq", "!!!", "  "]).any()


def test_scripts_without_spaces() -> None:
    own = TfidfEncoder(dim=2).fit(
        ["東京都庁展望台からの夜景", "東京都庁展望台の見学", "北海道札幌市の雪祭り", "北海道札幌市の温泉"]
    )
    v = own.encode(["東京都庁展望台", "北海道札幌市", "東京都庁展望台の夜"])
    assert v[0] @ v[2] > 0.9 and v[0] @ v[1] < 0.3


def test_case_and_compatibility_forms_are_folded() -> None:
    v = TfidfEncoder(dim=4).fit(FILMS).encode(["SPACE opera", "ｓｐａｃｅ Opera"])
    assert np.allclose(v[0], v[1])


def test_a_text_does_not_depend_on_its_company_to_the_bit() -> None:
    own = TfidfEncoder(dim=4).fit(FILMS)
    together = own.encode(FILMS * 2)
    assert np.array_equal(together, np.stack([own.encode([text])[0] for text in FILMS * 2]))


def test_the_same_seed_gives_the_same_bits_and_the_order_of_texts_the_same_space() -> None:
    first, second = TfidfEncoder(dim=3).fit(FILMS), TfidfEncoder(dim=3).fit(list(FILMS))
    assert np.array_equal(first.vectors_, second.vectors_) and first.fingerprint == second.fingerprint
    other = TfidfEncoder(dim=3, seed=5).fit(FILMS[::-1])
    assert np.allclose(other.encode(FILMS) @ other.encode(FILMS).T, first.encode(FILMS) @ first.encode(FILMS).T, atol=1e-4)
    assert other.fingerprint != first.fingerprint


def test_files_to_the_bit(tmp_path: Path) -> None:
    own = TfidfEncoder(dim=3, max_features=50, subwords=0.25, seed=2).fit(FILMS)
    own.save(tmp_path / "enc")
    own.save(tmp_path / "enc")
    for back in (TfidfEncoder.load(tmp_path / "enc"), encoder(tmp_path / "enc"), TfidfEncoder.of_state(own.state())):
        assert isinstance(back, TfidfEncoder)
        assert np.array_equal(back.encode([*FILMS, "new words"]), own.encode([*FILMS, "new words"]))
        assert back.fingerprint == own.fingerprint and (back.dim, back.subwords, back.seed) == (3, 0.25, 2)
    assert len(own.names_) == 50


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    own = TfidfEncoder(dim=3).fit(FILMS)
    path = own.save(tmp_path / "enc") / FILE
    whole = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError):
        TfidfEncoder.load(tmp_path / "enc")
    for change in (
        {"idf": whole["idf"][:-1]},
        {"name_offsets": whole["name_offsets"][:-1]},
        {"settings": np.array([1], np.uint8)},
    ):
        save_file({**whole, **change}, path)
        with pytest.raises(BundleError):
            TfidfEncoder.load(tmp_path / "enc")
    with pytest.raises(BundleError):
        TfidfEncoder.load(tmp_path)


def test_few_texts_leave_columns_zero_and_dim_is_kept() -> None:
    own = TfidfEncoder(dim=64).fit(["red", "blue"])
    v = own.encode(["red", "blue", "red blue"])
    assert v.shape == (3, 64) and abs(v[0] @ v[1]) < 1e-4 and 0.6 < v[2] @ v[0] < 0.8
    assert TfidfEncoder(dim=5).fit(["one"]).encode(["one"]).shape == (1, 5)
    same = TfidfEncoder(dim=5).fit(["one", "one", ""]).encode(["one"])
    assert np.allclose(np.linalg.norm(same), 1, atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(NotFittedError):
        TfidfEncoder().encode(["a"])
    for texts in ([], ["", " ", "!!"]):
        with pytest.raises(DataError, match="no text has a word"):
            TfidfEncoder().fit(texts)
    with pytest.raises(DataError, match="not text"):
        TfidfEncoder().fit(["a", None])
    for settings in ({"dim": 0}, {"max_features": 0}, {"subwords": -1.0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            TfidfEncoder(**settings)


def test_the_most_frequent_features_stay() -> None:
    own = TfidfEncoder(dim=2, max_features=2, subwords=0).fit(["b a", "b c", "b c d"])
    assert list(own.names_) == ["b", "c"]


def test_a_long_text() -> None:
    assert np.isfinite(TfidfEncoder(dim=2).fit(FILMS).encode(["space " * 20_000, "x" * 100_000])).all()


def test_the_share_of_a_text_that_is_known() -> None:
    own = TfidfEncoder(dim=3, subwords=0).fit(["a a b", "b", "c b"])
    assert own.known_share(["a b c", "zebra", "", "?"]).tolist() == [1.0, 0.0, 0.0, 0.0]
    a, most = own.idf_[own.names_["a"]] * (1 + math.log(2)), own.idf_.max()
    assert own.known_share(["a a zebra"])[0] == pytest.approx(a**2 / (a**2 + most**2))
    runs = TfidfEncoder(dim=3).fit(FILMS)
    share = runs.known_share(["starships", "starshippers", "hippos"])
    assert share[0] == 1.0 > share[1] > 0.2 > share[2]
