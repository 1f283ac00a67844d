"""Audit: each finding on data made to have it, and silence on data that have none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from palate.data.audit import CODES, Audit, Finding, audit
from palate.data.dataset import Dataset
from palate.data.interactions import Interactions, concat
from palate.data.protocols import split
from palate.data.split import Split
from palate.errors import ConfigError, LeakError


def clean(n_users: int = 150, seed: int = 0) -> Dataset:
    """Return data whose cut by global time has nothing to report but its own size: every user and item all along."""
    rng = np.random.default_rng(seed)
    rounds = 10
    user = np.tile(np.arange(n_users), rounds)
    item = np.concatenate([(np.arange(n_users) * 7 + 13 * r) % n_users for r in range(rounds)])
    time = np.concatenate([r * 10_000 + rng.permutation(n_users) for r in range(rounds)])
    return Dataset.from_columns(user, item + 1_000, time=time, value=rng.integers(1, 6, len(user)).astype(float))


def codes(split_: Split) -> dict[str, Finding]:
    return {f.code: f for f in audit(split_).findings}


def by_hand(train: Dataset, valid: Interactions | None, test: Interactions | None, protocol: str = "global_time") -> Split:
    return Split(train, valid, test, {"protocol": protocol})


def events(data: Dataset, user: list[int], item: list[int], time: list[int] | None = None) -> Interactions:
    numbers = data.users.ids.encode(np.array(user)), data.items.ids.encode(np.array(item))
    return Interactions.sorted(*numbers, time=None if time is None else np.array(time))


def test_clean_data_have_no_finding() -> None:
    found = audit(split(clean(), "global_time"))
    assert found.findings == ()
    assert str(found) == "Audit: nothing to report."
    found.check()


def test_future_in_train_is_hard_where_time_is_promised() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[10, 30, 40])
    made = by_hand(train, None, events(train, [2], [2], [30]))
    finding = codes(made)["future-in-train"]
    assert (finding.severity, finding.count) == ("hard", 2)
    with pytest.raises(LeakError, match="--accept future-in-train"):
        audit(made).check()
    audit(made, accept=["future-in-train"]).check()
    assert codes(replace_spec(made, "given"))["future-in-train"].count == 1, "published parts may share a moment"


def replace_spec(made: Split, protocol: str) -> Split:
    return Split(made.train, made.valid, made.test_part, {"protocol": protocol})


@pytest.mark.parametrize("protocol", ["leave_one_out", "user_ratio", "held_out_users", "held_out_items"])
def test_future_in_train_is_a_warning_where_the_protocol_makes_it(protocol: str) -> None:
    made = split(Dataset.from_columns(np.repeat(np.arange(30), 10), np.arange(300) % 70, time=np.arange(300)), protocol)
    found = audit(made)
    assert codes(made)["future-in-train"].severity == "warn"
    assert "as this protocol is made" in codes(made)["future-in-train"].message
    found.check()


def test_validation_after_test_is_a_leak() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[1, 2, 3])
    made = by_hand(train, events(train, [1], [1], [60]), events(train, [2], [2], [50]))
    assert codes(made)["valid-after-test"].severity == "hard"
    made = by_hand(train, events(train, [1], [1], [40]), events(train, [2], [2], [50]))
    assert "valid-after-test" not in codes(made)


def test_an_answer_with_its_time_in_train_is_a_leak() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[1, 2, 3])
    finding = codes(by_hand(train, None, events(train, [1, 2], [2, 2], [2, 9]), "leave_one_out"))["answers-in-train"]
    assert (finding.severity, finding.count, finding.examples) == ("hard", 1, ((1, 2),))


def test_a_repeat_at_another_time_is_no_leak_but_cannot_be_found() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[1, 2, 3])
    found = codes(by_hand(train, None, events(train, [1, 2], [2, 2], [8, 9])))
    assert "answers-in-train" not in found
    assert (found["train-test-overlap"].severity, found["train-test-overlap"].count) == ("warn", 1)


def test_validation_answers_in_train_are_a_leak_too() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[1, 2, 3])
    made = by_hand(train, events(train, [1], [2], [2]), events(train, [2], [2], [9]), "leave_one_out")
    assert codes(made)["answers-in-train"].message.startswith("1 validation events")


def test_published_parts_without_times_that_overlap_are_a_leak() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1])
    test = Dataset.from_columns([1, 2], [2, 2])
    assert codes(split(train, "given", test=test))["answers-in-train"].severity == "hard"
    ours = by_hand(train, None, events(train, [1], [2]), "leave_one_out")
    assert "answers-in-train" not in codes(ours), "rows that we cut ourselves are different events"
    assert codes(ours)["train-test-overlap"].severity == "warn"


def test_logs_that_run_past_the_border() -> None:
    data = clean()
    made = split(data, "global_time")
    first = int(made.valid.time.min())  # type: ignore[union-attr]
    shown = pa.table({"item": pa.array([0, 1, 2], pa.int32()), "time": [first - 1, first, first + 5]})
    leaky = replace(made, train=replace(made.train, impressions=shown))
    found = codes(leaky)["logs-after-border"]
    assert (found.severity, found.count) == ("warn", 2)
    assert "2 of 3 rows of impressions" in found.message
    before = replace(made, train=replace(made.train, impressions=shown.slice(0, 1), searches=pa.table({"query": ["x"]})))
    assert codes(before) == {}
    by_user = split(replace(data, impressions=shown), "leave_one_out")
    assert "logs-after-border" not in codes(by_user)


def test_duplicates_in_train() -> None:
    train = Dataset.from_columns([1, 1, 1, 2], [5, 5, 5, 6], time=[1, 2, 3, 4])
    finding = codes(by_hand(train, None, events(train, [2], [5], [9])))["duplicates"]
    assert (finding.count, finding.examples) == (2, ((1, 5),))


def test_time_ties_across_a_border() -> None:
    data = Dataset.from_columns([1, 1, 1, 2, 2, 2], [1, 2, 3, 1, 2, 3], time=[1, 5, 5, 1, 2, 3])
    finding = codes(split(data, "leave_one_out"))["time-ties"]
    assert (finding.count, finding.examples) == (1, (1,))


def test_unseen_items_and_users() -> None:
    data = Dataset.from_columns([1, 1, 2, 1, 3], [1, 2, 1, 9, 1], time=[1, 2, 3, 50, 60])
    found = codes(split(data, "global_time", test_at=40))
    assert (found["unseen-items"].count, found["unseen-items"].examples) == (1, (9,))
    assert (found["unseen-users"].count, found["unseen-users"].examples) == (1, (3,))
    assert found["unseen-items"].severity == found["unseen-users"].severity == "info"


def ordered(ids: list[object]) -> Split:
    n = len(ids)
    data = Dataset.from_columns(np.arange(n * 2) % 7, [*ids, *ids], time=np.arange(n * 2))
    return split(data, "global_time", valid=0, test=0.1)


def test_ids_that_betray_time() -> None:
    rising = list(range(100, 160))
    finding = codes(ordered(rising))["id-order"]
    assert (finding.severity, finding.examples) == ("warn", (1.0,))
    assert "rise" in finding.message
    assert "fall" in codes(ordered(rising[::-1]))["id-order"].message
    assert codes(ordered([str(i) for i in rising]))["id-order"].severity == "warn", "digits in text are numbers"
    shuffled = np.random.default_rng(0).permutation(rising).tolist()
    assert "id-order" not in codes(ordered(shuffled))


def test_text_ids_are_judged_by_our_numbers() -> None:
    words = [f"word-{n}" for n in np.random.default_rng(0).permutation(60)]
    finding = codes(ordered(words))["id-order"]
    assert finding.severity == "info"
    assert finding.message.startswith("our numbers of items rise")


def test_small_and_constant_data() -> None:
    data = Dataset.from_columns([1] * 5, range(5), time=[3] * 5, value=[1.0] * 5)
    found = codes(split(data, "leave_one_out", valid=0))
    assert {"one-user", "tiny-test", "constant-time", "constant-value", "empty-part"} <= set(found)
    assert found["tiny-test"].count == 1
    assert found["empty-part"].message.startswith("there is no validation part")


def test_findings_are_sorted_by_gravity_and_round_trip_as_json() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[10, 30, 40])
    found = audit(by_hand(train, None, events(train, [2], [2], [30])))
    order = [("hard", "warn", "info").index(f.severity) for f in found.findings]
    assert order == sorted(order)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["leaks"] == 1
    assert plain["findings"][0]["code"] == "future-in-train"
    assert "hard  future-in-train" in str(found)


def test_every_leak_is_named_at_once() -> None:
    leaks = tuple(Finding(code, "hard", code, 1) for code in ("answers-in-train", "future-in-train"))
    with pytest.raises(LeakError, match="--accept answers-in-train --accept future-in-train"):
        Audit(leaks).check()
    with pytest.raises(LeakError) as caught:
        Audit(leaks, accepted=("answers-in-train",)).check()
    assert "answers-in-train" not in str(caught.value)


def test_a_split_audits_itself_and_a_leak_is_an_error_unless_accepted() -> None:
    train = Dataset.from_columns([1, 1, 2], [1, 2, 1], time=[10, 30, 40])
    leaky = by_hand(train, None, events(train, [2], [2], [20]))
    with pytest.raises(LeakError, match="come after"):
        leaky.audit()
    found = leaky.audit(accept=["future-in-train"])
    assert found.accepted == ("future-in-train",) and found.leaks == ()
    assert split(clean(), "global_time").audit().findings == ()
    assert leaky.looks == 0


def test_unknown_code_to_accept() -> None:
    with pytest.raises(ConfigError, match="future-in-train"):
        audit(split(clean(), "global_time"), accept=["future-in-trian"])
    assert all(code in (audit.__globals__["__doc__"] or "") for code in CODES), "every code is explained"


def test_an_audit_opens_no_test_part_and_moves_no_event() -> None:
    made = split(clean(), "global_time")
    before = made.fingerprint
    audit(made)
    assert made.looks == 0
    assert made.fingerprint == before


def test_a_leaky_split_is_told_from_a_clean_one() -> None:
    """Put each test event of a clean split back into training: all of them are found."""
    made = split(clean(), "global_time")
    assert made.test_part is not None
    leaky = replace(made.train, interactions=concat(made.train.interactions, made.test_part))
    found = codes(Split(leaky, made.valid, made.test_part, made.spec))
    assert found["answers-in-train"].count == len(made.test_part)
    assert found["future-in-train"].severity == "hard"


def test_a_hand_made_split_that_learns_from_nothing() -> None:
    data = Dataset.from_columns([1, 2], [1, 2], time=[1, 2])
    empty = replace(data, interactions=data.interactions.take(np.zeros(2, bool)))
    found = codes(by_hand(empty, None, data.interactions))
    assert found["unseen-users"].count == found["unseen-items"].count == 2


def untimed(sort: bool) -> Dataset:
    """Return data without times: each person's items in a random order, or sorted."""
    rng = np.random.default_rng(0)
    rows = [rng.choice(200, 8, replace=False) for _ in range(120)]
    item = np.concatenate([np.sort(row) if sort else row for row in rows])
    return Dataset.from_columns(np.repeat(np.arange(120), 8), item + 1_000)


@pytest.mark.parametrize("protocol", ["leave_one_out", "user_ratio", "held_out_users"])
def test_file_order_in_the_place_of_time_is_told(protocol: str) -> None:
    told = codes(split(untimed(sort=False), protocol))["file-order"]
    assert told.severity == "info" and "no times" in told.message
    told = codes(split(untimed(sort=True), protocol))["file-order"]
    assert told.severity == "warn" and 'order="random"' in told.message
    assert "file-order" not in codes(split(untimed(sort=True), protocol, order="random"))
    assert "file-order" not in codes(split(clean(), protocol))
