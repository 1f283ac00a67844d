"""Reports of one bundle or one run: numbers brought together by raw id, slices, categories, looks counted for good."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions, concat
from palate.data.split import Split
from palate.data.split_files import read_split, write_split
from palate.data.writers import write_run
from palate.errors import ConfigError, DataError
from palate.recommend.ease import EASE
from palate.simulate.world import World
from palate.study.evaluate import evaluate
from palate.study.questions import asked, of_split
from palate.study.renumber import Renumbered
from palate.study.score import score_bundle, score_run

METRICS = ("ndcg@10", "recall@10", "calibration@10")


@pytest.fixture(scope="module")
def split():
    data = World(users=200, items=60, events=3_000, topics=6, min_events=4).dataset(text=False, impressions=False)
    people = pa.table({"age": pa.array(np.arange(data.n_users) % 60)})
    things = pa.table({"genre": pa.array([f"g{i % 4}" for i in range(data.n_items)])})
    data = data.derive({"step": "attributes"}, users=Entities(data.users.ids, people), items=Entities(data.items.ids, things))
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    train = data.derive({"step": "train"}, interactions=events.take(~last))
    return Split(train, None, events.take(last), {"protocol": "last"})


@pytest.fixture(scope="module")
def folder(split, tmp_path_factory):
    return write_split(split, tmp_path_factory.mktemp("score") / "split")


@pytest.fixture(scope="module")
def bundle(split, tmp_path_factory):
    where = tmp_path_factory.mktemp("score") / "model"
    EASE(reg=30.0).fit(split.train).save(where)
    return where


def _shuffled(split):
    """The same training events, numbered in another order, with one item more and one person fewer."""
    train, rng = split.train, np.random.default_rng(0)
    kept = train.interactions.user != train.interactions.user[0]
    user, item = train.interactions.user[kept], train.interactions.item[kept]
    order = rng.permutation(len(user))
    users = train.users.ids.decode(user[order]).to_pylist()
    items = train.items.ids.decode(item[order]).to_pylist()
    return Dataset.from_columns([*users, users[0]], [*items, 10**6], name="shuffled")


def test_a_bundle_is_judged_as_its_model_is(split, folder, bundle):
    report = score_bundle(bundle, read_split(folder), metrics=METRICS, categories="genre", attributes=["age"])
    expected = evaluate(EASE(reg=30.0).fit(split.train), split.held_out("test"), METRICS[:2], train=split.train)
    for name in METRICS[:2]:
        np.testing.assert_array_equal(report.values("EASE", name), expected.per_user[name])
    assert report.estimates("calibration@10")["EASE"].value > 0
    assert {s.name for s in report.slicings} >= {"activity", "popularity of the answers", "age"}
    before = read_split(folder).looks
    with pytest.raises(ConfigError, match="no such user attribute"):
        score_bundle(bundle, read_split(folder), attributes=["agee"])
    with pytest.raises(ConfigError, match="categories"):
        score_bundle(bundle, read_split(folder), metrics=["calibration@10"])
    with pytest.raises(ConfigError, match="no such item attribute"):
        score_bundle(bundle, read_split(folder), metrics=METRICS, categories="gender")
    with pytest.raises(ConfigError, match="unknown metric"):
        score_bundle(bundle, read_split(folder), metrics=["ndgc@10"])
    assert read_split(folder).looks == before, "questions that can't be answered open nothing"


def test_raw_ids_bring_bundle_and_split_together(split):
    model = EASE(reg=30.0).fit(_shuffled(split))
    view = Renumbered(model, split.train)
    assert not view.same
    assert view.dataset.n_items == split.train.n_items + 1
    block = next(asked(next(of_split(model, split)), model))
    raw, requests = block.people, block.requests
    answers, ours = model.recommend(requests, 8), view.recommend(questions_in(split), 8)
    known = view.dataset.items.ids.decode(ours.items[3]).to_pylist()
    assert known == model.items_.ids.decode(answers.items[3]).to_pylist()
    assert len(raw) == len(requests)
    assert split.train.users.ids.raw[0].as_py() not in model.users_.ids.raw.to_pylist()
    # Who is unknown to the model is answered from the history that the question carries.
    assert not ours.cold[0]


def questions_in(split):
    from palate.contracts.requests import Requests

    users, histories = split.people("test")
    return Requests(users, histories, exclude=histories.ragged)


def test_ids_of_different_kinds_are_refused(split):
    model = EASE().fit(Dataset.from_columns(["a", "b"], ["x", "y"]))
    with pytest.raises(DataError, match="different kinds"):
        Renumbered(model, split.train)


def test_a_run_gives_the_report_of_its_bundle(split, folder, bundle, tmp_path):
    model, requests = EASE(reg=30.0).fit(split.train), questions_in(split)
    ranking = model.recommend(requests, 10)
    ids = split.train.items.ids
    write_run(
        tmp_path / "run.trec",
        split.train.users.ids.decode(requests.users).to_pylist(),
        [ids.decode(row[row >= 0]).to_pylist() for row in ranking.items],
        [row[np.isfinite(row)] for row in ranking.scores],
        "ease",
    )
    run = score_run(tmp_path / "run.trec", read_split(folder), metrics=METRICS, categories="genre", attributes=["age"])
    own = score_bundle(bundle, read_split(folder), metrics=METRICS, categories="genre", attributes=["age"])
    for name in METRICS:
        assert run.estimates(name)["run.trec"].value == own.estimates(name)["EASE"].value
    assert [s.name for s in run.slicings] == [s.name for s in own.slicings]
    assert run.runs[0].info["run"]["unanswered"] == 0


def test_looks_are_counted_across_processes(split, bundle, tmp_path):
    folder = write_split(Split(split.train, None, split.test_part, {"protocol": "looks"}), tmp_path / "split")
    assert score_bundle(bundle, read_split(folder), metrics=["ndcg@10"]).looks == 1
    command = [sys.executable, "-m", "palate.cli.main", "evaluate", str(bundle), "--split", str(folder), "--json"]
    script = "import sys; from palate.cli.main import app; sys.argv = ['palate', *sys.argv[1:]]; app()"
    command = [sys.executable, "-c", script, *command[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"looks": 2' in done.stdout
    report = score_bundle(bundle, read_split(folder), metrics=["ndcg@10"])
    assert report.looks == 3
    assert any("opened 3 times" in line for line in report.summary_lines())


def test_a_model_that_may_have_seen_the_answers_is_told(split, folder, bundle, tmp_path):
    def told(where):
        return [line for line in score_bundle(where, read_split(folder), metrics=["ndcg@10"]).summary_lines() if "seen" in line]

    assert not told(bundle)
    everything = split.train.derive({"step": "all"}, interactions=concat(split.train.interactions, split.test_part))
    EASE(reg=30.0).fit(everything).save(tmp_path / "model")
    (line,) = told(tmp_path / "model")
    assert f"{len(everything):,} interactions" in line


def test_validation_may_be_looked_at_freely(split, bundle, tmp_path):
    parts = Split(split.train, split.test_part, Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32)), {"protocol": "v"})
    report = score_bundle(bundle, parts, part="valid", metrics=["ndcg@10"])
    assert report.looks == 0
    assert report.name.endswith("on the valid part")
