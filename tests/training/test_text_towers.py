"""Towers of texts: the loss by its definition, gathered batches, masked words, what a tower becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from palate.errors import ConfigError, UnsupportedError  # noqa: E402
from palate.language.encoder import encoder  # noqa: E402
from palate.language.encoders.hashed import HashedEncoder  # noqa: E402
from palate.training.text_towers import (  # noqa: E402
    IGNORED,
    HashedTower,
    TransformerTower,
    alignment,
    mask_words,
    opened,
    tower_of,
    unpacked,
)

TEXTS = ["red bicycle", "green bicycle for children", "iron pan", "steel pan with lid"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *["red", "green", "iron", "steel", "pan", "bicycle", "lid", "for", "with", "children", "a", "b", "c", "d"],
]


def vectors(n: int, seed: int = 0, d: int = 6):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), np.float32)).requires_grad_()


def plain(people, had, others, t: float, hidden=None):
    scores = functional.cosine_similarity(people[:, None], torch.cat([had, others])[None], dim=2) / t
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return functional.cross_entropy(scores, torch.arange(len(people)))


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_b_by_2b_matrix(masked: bool) -> None:
    own, by_hand = ([vectors(5, seed) for seed in range(3)] for _ in range(2))
    hidden = None
    if masked:
        hidden = torch.zeros(5, 10, dtype=torch.bool)
        hidden[0, 3] = hidden[4, 9] = True
    a, b = alignment(*own, 0.05, hidden), plain(*by_hand, 0.05, hidden)
    a.backward(), b.backward()
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    for x, y in zip(own, by_hand, strict=True):
        assert torch.allclose(x.grad, y.grad, atol=1e-5)


def test_hiding_lowers_the_loss_and_never_hides_ones_own_place() -> None:
    a, b, c = (vectors(4, seed) for seed in range(3))
    everything = torch.ones(4, 8, dtype=torch.bool)
    assert alignment(a, b, c, 0.1, everything).item() == pytest.approx(0, abs=1e-6)
    some = torch.zeros(4, 8, dtype=torch.bool)
    some[:, 6] = True
    assert alignment(a, b, c, 0.1, some) < alignment(a, b, c, 0.1)


def test_gathered_halves_are_one_big_batch_with_the_gradient_of_the_local_part() -> None:
    """Two workers that see each other's vectors have together the loss of one big batch, each with its share of the slope."""
    big = [vectors(6, seed) for seed in range(3)]
    whole = alignment(*big, 0.1)
    whole.backward()
    total = 0.0
    for part in (slice(0, 3), slice(3, 6)):
        people, had, others = (x.detach().clone() for x in big)
        local = people[part].clone().requires_grad_()
        items = torch.cat([had, others])
        own = torch.arange(6)[part]
        scores = functional.normalize(local) @ functional.normalize(items).T / 0.1
        loss = functional.cross_entropy(scores, own)
        loss.backward()
        total += loss.item() / 2
        assert torch.allclose(local.grad / 2, big[0].grad[part], atol=1e-5)
    assert total == pytest.approx(whole.item(), rel=1e-5)


def test_without_drawn_negatives_it_is_the_contrast_within_the_batch() -> None:
    a, b = vectors(5), vectors(5, 1)
    own = functional.cross_entropy(functional.normalize(a) @ functional.normalize(b).T / 0.05, torch.arange(5))
    assert alignment(a, b, a[:0], 0.05).item() == pytest.approx(own.item(), rel=1e-5)


def test_masking_takes_its_share_of_what_is_free() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 1000, (200, 100))
    free = rng.random(ids.shape) < 0.7
    shown, labels = mask_words(ids, free, 0.15, 4, 1000, rng)
    chosen = labels != IGNORED
    assert not (chosen & ~free).any() and np.array_equal(labels[chosen], ids[chosen])
    assert chosen.sum() / free.sum() == pytest.approx(0.15, abs=0.01)
    assert (shown[chosen] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (shown[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.02)
    assert np.array_equal(shown[~chosen], ids[~chosen])


def test_a_hashed_tower_says_what_its_encoder_says_and_learns(tmp_path: Path) -> None:
    own = HashedEncoder.fresh(np.random.default_rng(0), buckets=256, width=16, hidden=(12,), dim=8)
    tower = HashedTower(own)
    read = tower.read(TEXTS)
    assert np.allclose(tower(read).detach().numpy(), own.encode(TEXTS), atol=1e-5)
    assert np.array_equal(opened(tower.packed()).encode(TEXTS), own.encode(TEXTS))
    optimizer = torch.optim.Adam(tower.parameters(), lr=0.01)
    first = None
    for _ in range(30):
        found = tower(read)
        loss = alignment(found[:2], found[2:], found[:0], 0.1)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    folder = unpacked(tower.packed(), tmp_path / "tuned")
    back = encoder(folder)
    assert np.allclose(back.encode(TEXTS), tower(read).detach().numpy(), atol=1e-5)
    assert not np.allclose(back.encode(TEXTS), own.encode(TEXTS), atol=1e-2)
    again = tower_of(folder, pooling=None, max_tokens=64, words=False)
    assert np.array_equal(opened(again.packed()).encode(TEXTS), back.encode(TEXTS))
    with pytest.raises(UnsupportedError, match="masked words"):
        tower_of(folder, pooling=None, max_tokens=64, words=True)
    with pytest.raises(UnsupportedError, match="masked words"):
        tower.masked_words(read, 0.15, np.random.default_rng(0))


def folder_of(path: Path, kind: str) -> Path:
    transformers, t = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=24, initializer_range=0.5, **shape)
    getattr(transformers, kind)(config).save_pretrained(path)
    own = t.Tokenizer(t.models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    own.pre_tokenizer = t.pre_tokenizers.Whitespace()
    own.post_processor = t.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    own.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_transformer_becomes_a_folder_that_any_encoder_reads(tmp_path: Path, pooling: str) -> None:
    folder = folder_of(tmp_path / "model", "BertForMaskedLM")
    tower = tower_of(folder, pooling=pooling, max_tokens=16, words=True).eval()
    assert isinstance(tower, TransformerTower)
    read = tower.read(TEXTS)
    with torch.no_grad():
        found = tower(read).numpy()
        alone = np.concatenate([tower([one]).numpy() for one in read])
    assert np.allclose(found, alone, atol=1e-5), "padding changes a vector"
    packed = tower.packed()
    back = encoder(unpacked(packed, tmp_path / "tuned"), cache=False)
    assert np.allclose(back.encode(TEXTS), found, atol=1e-5)
    assert np.array_equal(opened(packed).encode(TEXTS), back.encode(TEXTS))
    loss = tower.masked_words(read, 0.5, np.random.default_rng(0))
    loss.backward()
    assert loss.item() > 0 and any(p.grad is not None and bool(p.grad.any()) for p in tower.model.parameters())
    assert tower.masked_words(read, 1e-9, np.random.default_rng(0)).item() == 0


def test_a_transformer_without_a_head_is_refused_for_masked_words(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", "BertModel")
    with pytest.raises(UnsupportedError, match="masked words"):
        tower_of(folder, pooling="mean", max_tokens=16, words=True)
    with pytest.raises(ConfigError, match="pooled"):
        tower_of(folder, pooling=None, max_tokens=16, words=False)
    with pytest.raises(ConfigError, match="no encoder that can be tuned"):
        tower_of(tmp_path / "nowhere", pooling=None, max_tokens=16, words=False)


def test_a_text_without_a_word_has_no_vector_and_no_gradient() -> None:
    tower = HashedTower(HashedEncoder.fresh(np.random.default_rng(0), buckets=64, width=4, hidden=(4,), dim=3))
    texts = ["red bicycle", "", "?!", "pan"]
    found = tower(tower.read(texts))
    np.testing.assert_allclose(found.detach().numpy(), tower.encoder.encode(texts), atol=1e-6)
    assert not found[[1, 2]].any() and found[[0, 3]].any(dim=1).all()
    (found * 1e3).sum().backward()
    gradients = [p.grad for p in tower.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) and float(g.abs().max()) < 1e6 for g in gradients)
    nothing = tower(tower.read(["", "?!"]))
    assert nothing.shape == (2, 3) and not nothing.any()
