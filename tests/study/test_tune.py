"""Tuning: defaults first, seeded, on validation, never on test."""

import numpy as np
import pytest

from palate.catalog.spaces import Range
from palate.data.split import Split
from palate.errors import ConfigError, DataError
from palate.recommend.ease import EASE
from palate.simulate.world import World
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

pytest.importorskip("optuna")


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


def test_first_trial_is_the_defaults_and_the_best_wins(split):
    tuned = tune(split, "ease", trials=5, seed=1)
    assert tuned.trials[0].settings == {}
    assert len(tuned.trials) == 5
    assert len({t.settings.get("reg") for t in tuned.trials}) == 5
    assert tuned.value == max(t.value for t in tuned.trials)
    held_out = split.held_out("valid")
    default = evaluate(EASE().fit(split.train), held_out, ["ndcg@10"], train=split.train).value("ndcg@10")
    assert tuned.trials[0].value == default
    chosen = EASE(**tuned.settings).fit(split.train)
    assert evaluate(chosen, held_out, ["ndcg@10"], train=split.train).value("ndcg@10") == tuned.value


def test_same_seed_same_trials(split):
    first, second, other = (tune(split, "ease", trials=7, seed=s) for s in (3, 3, 4))
    strip = [[(dict(t.settings), t.value) for t in x.trials] for x in (first, second, other)]
    assert strip[0] == strip[1]
    assert strip[0] != strip[2]


def test_it_finds_a_better_setting_than_a_bad_base_would_suggest(split):
    tuned = tune(split, "ease", trials=8, seed=0, space={"reg": Range(1.0, 10_000.0, log=True)})
    assert tuned.value >= tuned.trials[0].value
    assert 1.0 <= tuned.settings.get("reg", 250.0) <= 10_000.0


def test_a_metric_that_should_be_low_is_lowered(split):
    tuned = tune(split, "ease", trials=4, seed=0, metric="percentile_rank", space={"reg": Range(0.1, 1e5, log=True)})
    assert len({t.value for t in tuned.trials}) > 1
    assert tuned.value == min(t.value for t in tuned.trials)
    for metric, words in (("arp@10", "neither more nor less"), ("first_rank@1", "no value")):
        train = split.train
        hopeless = Split(train, split.valid.take(split.valid.item == split.valid.item[0]), None, {})
        with pytest.raises(ConfigError, match=words):
            tune(hopeless if words == "no value" else split, "random", trials=1, metric=metric, seed=5)


def test_the_test_part_stays_closed(split):
    tune(split, "ease", trials=2)
    assert split.looks == 0
    with pytest.raises(DataError, match="no test part"):
        blind(split).held_out("test")


def test_fixed_settings_are_kept(split):
    tuned = tune(split, "ease", trials=3, base={"reg": 7.0})
    assert tuned.settings == {"reg": 7.0}
    assert len(tuned.trials) == 1


def test_a_system_without_a_space_takes_one_trial(split):
    assert len(tune(split, "ease", trials=4, space={}).trials) == 1


def test_a_failed_trial_is_recorded_and_never_chosen(split):
    # Popularity can't have a window and a half-life at once, so every trial but the first fails.
    tuned = tune(split, "popularity", trials=3, base={"window_days": 30.0}, space={"half_life_days": Range(1.0, 10.0)}, seed=0)
    assert [bool(t.error) for t in tuned.trials] == [False, True, True]
    assert "window_days or half_life_days" in tuned.trials[1].error
    assert np.isnan(tuned.trials[1].value)
    assert tuned.settings == {"window_days": 30.0}


def test_failing_defaults_are_an_error(split):
    with pytest.raises(ConfigError, match="not both"):
        tune(split, "popularity", trials=1, base={"window_days": 1.0, "half_life_days": 1.0})


def test_bad_questions(split):
    with pytest.raises(ConfigError, match="at least 1"):
        tune(split, "ease", trials=0)
    with pytest.raises(ConfigError, match="unknown system"):
        tune(split, "eaze", trials=1)
    with pytest.raises(DataError, match="no valid part"):
        tune(Split(split.train, None, split.test_part, {}), "ease", trials=1)
