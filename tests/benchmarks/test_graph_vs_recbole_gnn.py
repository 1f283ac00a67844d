"""Graph systems beside RecBole-GNN: both sides with the same settings, the stronger form of the peer counts, rows stay."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.simulate.world import World

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("graph_vs_recbole_gnn")


def test_both_sides_have_the_same_settings(program: Any) -> None:
    assert set(program.SAME) == set(program.PEER) == set(program.FREE)
    words = {"layers": "n_layers", "eps": "eps", "contrast_layer": "layer_cl", "drop_rate": "drop_ratio"}
    for name, own in program.SAME.items():
        theirs = program.PEER[name][1]
        for word, their in words.items():
            assert own.get(word) == theirs.get(their), (name, word)
        assert own.get("temperature") == theirs.get("temperature", theirs.get("ssl_tau"))
        if name != "simgcl":  # its weight is of a sum there
            assert own.get("cl_weight") == theirs.get("lambda", theirs.get("ssl_weight"))
    shared = program.SHARED
    assert [shared[word] for word in ("dim", "lr", "reg", "batch_size")] == [
        program.PEER_SHARED[word] for word in ("embedding_size", "learning_rate", "reg_weight", "train_batch_size")
    ]


def test_the_faster_form_of_the_peer_and_the_slowest_of_palate_count(program: Any) -> None:
    class Side:
        def peer(self, name: str, adjacency: str) -> Any:
            return Peer(adjacency)

    class Peer:
        def __init__(self, adjacency: str) -> None:
            self.adjacency = adjacency

        def close(self) -> None:
            pass

    mine = iter([[1.0, 1.0, 9.0], [2.0], [1.5]])
    columns = program.alternated(
        "lightgcn", Side(), lambda: next(mine), lambda peer: [{"links": 40.0, "csr": 8.0}[peer.adjacency]]
    )
    assert columns["palate s"] == 2
    assert columns["recbole-gnn links s"] == 40
    assert columns["recbole-gnn csr s"] == 8
    assert columns["times faster"] == 4
    assert columns["times faster than its default"] == 20


def test_own_batches_and_courses_run(program: Any) -> None:
    split = importlib.import_module("palate").split(
        World(users=60, items=40, events=1_500, seed=1).dataset(text=False, impressions=False), "user_ratio", order="random"
    )
    settings = {**program.SHARED, **program.SAME["sgl"], "dim": 8, "batch_size": 128, "epochs": 2}
    seconds, of = program.batch_seconds("sgl", settings, split, 3)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert of == -(-split.train.matrix().nnz // 128)
    points = program.course("sgl", settings, split, split.held_out("valid"))
    assert len({value for _, value in points}) > 1  # each epoch is read by itself
    assert all(np.diff([passed for passed, _ in points]) > 0)


def test_new_rows_take_the_place_of_old_ones_and_others_stay(program: Any) -> None:
    old = [{"what": "sgl: an epoch on gowalla (9 batches)", "s": 1}, {"what": "lightgcn: to validation Recall@20 0.3", "s": 2}]
    new = [{"what": "sgl: an epoch on gowalla (8 batches)", "s": 3}, {"what": "sgl: an epoch on ml-100k (2)", "s": 4}]
    found = program.ordered([*old, *new], list(program.SAME), list(program.PARTS.values()))
    assert [row["s"] for row in found] == [2, 4, 3]
