"""Comparison: one split, one budget, one look at the test part."""

import numpy as np
import pytest

from palate.contracts.recommender import Recommender
from palate.data.split import Split
from palate.errors import ConfigError, DataError, LeakError
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity
from palate.simulate.world import World
from palate.study import compare as module
from palate.study.compare import compare
from palate.study.evaluate import evaluate


@pytest.fixture
def split():
    data = World(users=250, items=80, events=5_000, topics=6, min_events=5).dataset(text=False, impressions=False)
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    second = np.zeros(len(events), bool)
    second[:-1] = last[1:]
    train = data.derive({"step": "train"}, interactions=events.take(~last & ~second))
    return Split(train, events.take(second), events.take(last), {"protocol": "leave_one_out"})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "recommend_rate", lambda *a, **k: 1000.0)


def _values(report, metric="ndcg@10"):
    return {run.title: run.overall[metric] for run in report.runs}


def test_the_report_holds_what_evaluate_says(split):
    report = compare(split, ["popularity", "ease"], metrics=["ndcg@10", "recall@10"])
    expected = evaluate(EASE().fit(split.train), split.held_out("test"), ["ndcg@10"], train=split.train)
    values = _values(report)
    assert values["EASE"] == expected.value("ndcg@10")
    assert set(values) == {"Popularity", "EASE"}
    info = {run.title: run.info for run in report.runs}
    assert info["EASE"]["settings"] == EASE().config.model_dump(mode="json")
    assert info["EASE"]["fit_seconds"] > 0
    assert info["EASE"]["requests_per_s"] == 1000.0
    assert info["EASE"]["n_trials"] == 0
    assert info["EASE"]["cold_share"] == 0
    assert report.split_fingerprint == split.fingerprint


def test_the_test_part_is_opened_once_and_last(split, monkeypatch):
    order = []
    opened, fitted = Split.held_out, Recommender.fit

    def held_out(self, part, **options):
        order.append(part if self is split else f"blind {part}")
        return opened(self, part, **options)

    def fit(self, dataset, *args, **options):
        order.append("fit")
        assert split.looks == 0
        return fitted(self, dataset, *args, **options)

    monkeypatch.setattr(Split, "held_out", held_out)
    monkeypatch.setattr(Recommender, "fit", fit)
    compare(split, ["popularity", "ease"], metrics=["ndcg@10"], trials=2, seeds=2)
    assert order.count("test") == 1
    assert order[-1] == "test"
    assert "blind test" not in order
    assert order.count("fit") == 2 * (2 + 2)
    assert split.looks == 1


def test_equal_budget_and_seeds(split):
    report = compare(split, ["popularity", "ease"], metrics=["ndcg@10"], trials=3, seeds=2, seed=5)
    assert [(r.title, r.seed) for r in report.runs] == [("Popularity", 5), ("Popularity", 6), ("EASE", 5), ("EASE", 6)]
    assert {r.info["n_trials"] for r in report.runs} == {3}


def test_refit_learns_from_validation_too(split):
    plain, again = [], []
    compare(split, ["popularity"], metrics=["ndcg@10"], keep=plain)
    compare(split, ["popularity"], metrics=["ndcg@10"], refit=True, keep=again)
    events = [e[0].fitted[0].record_.data["interactions"] for e in (plain, again)]
    assert events == [len(split.train), len(split.train) + len(split.valid)]


def test_models_and_titles(split):
    report = compare(split, [Popularity(), Popularity(half_life_days=20)], metrics=["ndcg@10"])
    assert [r.title for r in report.runs] == ["Popularity", "Popularity (half_life_days=20.0)"]
    report = compare(split, {"strong": EASE(reg=900.0), "weak": EASE(reg=1.0)}, metrics=["ndcg@10"])
    assert [(r.title, r.info["settings"]["reg"]) for r in report.runs] == [("strong", 900.0), ("weak", 1.0)]


def test_bad_questions(split):
    with pytest.raises(ConfigError, match="same title"):
        compare(split, ["ease", "ease"])
    with pytest.raises(ConfigError, match="at least one model"):
        compare(split, [])
    with pytest.raises(ConfigError, match="seeds"):
        compare(split, ["ease"], seeds=0)
    with pytest.raises(ConfigError, match="unknown metric"):
        compare(split, ["ease"], metrics=["ndgc@10"])
    with pytest.raises(ConfigError, match="needs categories"):
        compare(split, ["ease"], metrics=["ndcg@10", "calibration@10"])
    with pytest.raises(ConfigError, match="planned"):
        compare(split, ["lc_rec"])
    assert split.looks == 0
    with pytest.raises(DataError, match="no test part"):
        compare(Split(split.train, split.valid, None, {}), ["ease"])


def test_a_hard_leak_is_refused_unless_accepted(split):
    leaky = Split(split.train, split.valid, split.train.interactions.take(np.arange(0, len(split.train), 50)), split.spec)
    with pytest.raises(LeakError, match="answers-in-train"):
        compare(leaky, ["popularity"], metrics=["ndcg@10"])
    assert leaky.looks == 0
    report = compare(leaky, ["popularity"], metrics=["ndcg@10"], accept=["answers-in-train"])
    assert "answers-in-train" in report.setup["accepted leaks"]
    assert any("answers-in-train" in line for line in report.summary_lines())
