"""The claims on two towers: whose pairs settings are chosen on, and the seconds to the best validation value."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from palate.runtime import generator
from palate.study.claims import Trial, load

pytest.importorskip("torch")
CLAIMS = Path(__file__).parents[2] / "claims"


def program(name: str) -> Any:
    load(CLAIMS / f"{name}.py")
    return sys.modules[f"palate_claim_{name}"]


def test_arms_with_all_pairs_are_tuned_with_all_pairs_and_the_others_with_few(monkeypatch):
    own = program("ssl_two_tower")
    trial, tuned, fitted = Trial((0, 1)), [], []
    data = next(iter(own.sources(Trial((0,), reduced=True)).values()))
    bench = own.Bench(trial, data, "world")
    monkeypatch.setattr(bench, "_best", lambda arm, split: tuned.append((arm, split)) or {"lr": len(tuned)})
    values = {metric: generator(0, "values").random(len(bench.tail)) for metric in own.METRICS}
    values |= {own.AMONG.format(metric): np.where(bench.tail, found, np.nan) for metric, found in values.items()}
    monkeypatch.setattr(bench, "_fit", lambda split, *what: fitted.append((split, *what)) or (values, {"passes": 1}))
    effects, few = own.last_items(bench, generator(0, "bootstrap"))
    with_all = {arm for arm, split in tuned if split is bench.whole}
    assert with_all == {own.PLAIN, own.OURS, *own.OTHERS}
    assert {arm for arm, split in tuned if split is bench.few} == {*own.ARMS, *own.OTHERS}
    assert set(few) == set(own.ARMS)
    for split, arm, settings, *_ in fitted:
        chosen = [at for at, one in enumerate(tuned, start=1) if one == (arm, split)]
        assert settings["lr"] in chosen
    table = effects[own.SCARCE].details["table"]
    among = {own.AMONG.format(metric) for metric in own.METRICS}
    assert set(table[own.OURS]) == {*own.METRICS, *among, "passes", "settings"}
    assert set(table[own.OURS]["recall@10"]) == {"all", "head", "tail"}
    assert set(table[own.OURS][own.AMONG.format("recall@10")]) == {"all"}


def test_a_copy_of_a_field_is_fitted_anew_though_the_questions_are_the_same(monkeypatch):
    own = program("ssl_two_tower")
    trial, keys = Trial((0,)), []
    data = next(iter(own.sources(Trial((0,), reduced=True)).values()))
    bench = own.Bench(trial, data, "world")
    twin = own.thinned(own.cut(own.doubled(data), "leave_one_out"), bench.share)
    assert twin.fingerprint == bench.few.fingerprint
    monkeypatch.setattr(bench, "settings", lambda arm, split: {"lr": 1})
    monkeypatch.setattr(trial, "kept", lambda make, **key: keys.append(str(key)) or ({"recall@50": np.zeros(1)}, {}))
    for split in (bench.few, twin):
        bench.fits(split, own.OURS)
    assert len(set(keys)) == 2


def test_answers_in_the_tail_are_ranked_among_the_tail():
    own = program("ssl_two_tower")
    bench = own.Bench(Trial((0,)), next(iter(own.sources(Trial((0,), reduced=True)).values())), "world")
    seen = own.blind(bench.few)
    found = own.judged(own.create("item_knn").fit(seen.train, seed=0), bench.few, bench.tail_items)
    whole, tail = found["recall@50"], found[own.AMONG.format("recall@50")]
    assert (np.isnan(tail) == ~bench.tail).all()
    assert (tail[bench.tail] >= whole[bench.tail]).all()
    assert tail[bench.tail].sum() > whole[bench.tail].sum()
    everything = own.judged(own.create("item_knn").fit(seen.train, seed=0), bench.few, np.ones(bench.data.n_items, bool))
    np.testing.assert_array_equal(everything["recall@50"], everything[own.AMONG.format("recall@50")])


def test_no_arm_has_a_task_whose_weight_may_be_chosen_and_is_held():
    own = program("ssl_two_tower")
    for _, base, space in own.ARMS.values():
        assert ("alpha" in space) != ("alpha" in base)


def test_seconds_are_those_of_the_fewest_passes_at_the_best_validation_value(monkeypatch):
    own = program("two_tower_hgnn")
    values = {"item_hgnn": (0.1, 0.3, 0.3, 0.2, 0.3), "graphsage": (0.1, 0.2, 0.3, 0.4, 0.5)}
    asked = []

    def answers(trial, system, settings, q, held_out, seed):
        passes = settings["graph_epochs" if system == "item_hgnn" else "epochs"]
        asked.append((system, seed, held_out, settings.get("lr")))
        value = values[system][own.LOOKS.index(passes)]
        return {own.METRIC: np.array([value]), "seconds": np.array(passes * (1.0 + seed))}

    monkeypatch.setattr(own, "answers", answers)
    matrix = SimpleNamespace(nnz=7)
    q = SimpleNamespace(valid="valid", train=SimpleNamespace(n_items=4, n_users=6, matrix=lambda: matrix))
    chosen = {"HGNN": {"lr": 1, "graph_epochs": 20}, "HGNN with people": {"lr": 2}}
    found = own.time_saved(Trial((0, 1)), chosen, q, [{"links": np.array(3)}, {"links": np.array(5)}])
    assert found.value == pytest.approx(1 - 2 / 15)
    assert found.details["best"]["HGNN"] == [(2, 0.3, 2.0), (2, 0.3, 4.0)]
    assert found.details["nodes"] == {"HGNN": 4, "HGNN with people": 10}
    assert found.details["links"] == {"HGNN": 4.0, "HGNN with people": 7}
    assert {(system, held_out, lr) for system, _, held_out, lr in asked} == {
        ("item_hgnn", "valid", 1),
        ("graphsage", "valid", 2),
    }


def test_shuffled_people_keep_what_is_new_and_get_the_old_items_of_somebody_else():
    own = program("two_tower_hgnn")
    q = own.questions(next(iter(own.sources(Trial((0,), reduced=True)).values())))
    mixed = own.shuffled(q, 0)
    true, other = (one.train.matrix().toarray() for one in (q, mixed))
    np.testing.assert_array_equal(true[:, q.new], other[:, q.new])
    old = [sorted(map(bytes, one[:, ~q.new].astype(np.uint8))) for one in (true, other)]
    assert old[0] == old[1] and (true != other).any(axis=1).mean() > 0.9
    people = mixed.test.users[:20]
    assert [set(row) for row in mixed.test.histories.ragged.tolist()[:20]] == [set(np.flatnonzero(other[u])) for u in people]
    told, chance = own.informative(q), own.informative(mixed)
    assert told["sharing a new item"] > 1.25 * told["random"]
    assert chance["sharing a new item"] < 1.1 * chance["random"]


def test_at_least_as_good_is_at_most_two_in_a_hundred_less_in_all_of_them():
    for name in ("ssl_two_tower", "two_tower_hgnn", "graph_contrast"):
        own = program(name)
        assert own.LITTLE == -0.02 and "at most 2% l" in own.CLAIM.statement
        assert any(bar.value == own.LITTLE for bar in own.CLAIM.bars.values())
