"""A fresh transformer is a folder like any other."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from palate.training.fresh_transformer import fresh_transformer
from palate.training.text_towers import opened, tower_of

TEXTS = ["a lamp for the desk", "a chair for the desk", "blue paper", "red paper and a lamp"]
SMALL = {"pieces": 300, "dim": 16, "layers": 1, "heads": 2, "max_tokens": 24}


def tower(path: Path):
    return tower_of(path, pooling="mean", max_tokens=24, words=True)


def test_it_reads_texts_and_its_seed_fixes_it(tmp_path: Path) -> None:
    folders = [fresh_transformer(tmp_path / str(at), TEXTS, seed=seed, **SMALL) for at, seed in enumerate((0, 0, 1))]
    vectors = [opened(tower(path).packed()).encode(TEXTS) for path in folders]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-5)
    assert vectors[0].shape == (4, 16)


def test_a_text_is_read_alike_alone_and_beside_a_longer_one(tmp_path: Path) -> None:
    own = tower(fresh_transformer(tmp_path / "one", TEXTS, **SMALL))
    both = own(own.read(["blue paper", "a lamp and a chair for the red desk"])).detach().numpy()
    alone = own(own.read(["blue paper"])).detach().numpy()
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)
