"""The contracts of rankers, policies, agents, writers and profilers: what they refuse, and what follows from them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.agent import Act, Agent, Ask, Offer, Say, Session, Turn
from palate.contracts.policy import Feedback, Policy, Slate
from palate.contracts.profiler import Links, Profile, Profiler, Things
from palate.contracts.ranker import Predictions, Ranker, Rows
from palate.contracts.requests import Requests
from palate.contracts.writer import Writer, WriteTask, Written
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.runtime import generator

# -- rank -------------------------------------------------------------------------------------------


class Linear(Ranker):
    """Predicts a click by one number of a row."""

    name = "linear"

    def _fit(self, blocks, validation, fitting):
        seen = [(b.features.column("x").to_numpy(), b.labels["click"]) for b in blocks()]
        x, y = (np.concatenate(part) for part in zip(*seen, strict=True))
        self.tasks_ = ("click", "purchase")
        self.slope_ = float((x * y).sum() / (x * x).sum())

    def _predict(self, rows: Rows) -> np.ndarray:
        x = rows.features.column("x").to_numpy() * self.slope_
        return np.stack([x, -x], axis=1).astype(np.float32)


def rows(**extra) -> Rows:
    return Rows(pa.table({"x": [1.0, 3.0, 2.0, 5.0, 4.0]}), groups=np.array([0, 0, 0, 7, 7]), **extra)


def test_a_ranker_learns_and_ranks_each_request() -> None:
    labels = {"click": np.array([2, 6, 4, 10, 8], np.float32)}
    whole = rows(labels=labels)
    model = Linear().fit(lambda: [whole.slice(0, 3), whole.slice(3, 5)])
    assert model.slope_ == pytest.approx(2.0)
    assert model.rank(rows()).tolist() == [[1, 2, 0], [3, 4]]
    assert model.rank(rows(), task="purchase").tolist() == [[0, 2, 1], [4, 3]]
    np.testing.assert_array_equal(model.predict(whole.slice(1, 4)).values, model.predict(whole).values[1:4])
    with pytest.raises(UnsupportedError, match="explain"):
        model.explain_row(whole.slice(0, 1))
    with pytest.raises(ConfigError, match="purchase"):
        model.predict(whole).task("purchases")
    with pytest.raises(DataError, match="belong to a request"):
        model.rank(Rows(whole.features))


def test_equal_predictions_keep_their_order() -> None:
    model = Linear().fit(rows(labels={"click": np.ones(5)}))
    model.slope_ = 0.0
    assert model.rank(rows()).tolist() == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"labels": {"click": np.zeros(4)}}, "labels of 'click'"),
        ({"labels": {"click": np.array([0, 0, np.inf, 0, 0])}}, "row 2"),
        ({"weights": np.array([1, 1, 1, -1, 1.0])}, "row 3"),
        ({"weights": np.array([1, np.nan, 1, 1, 1.0])}, "row 1"),
    ],
)
def test_bad_rows_are_refused(extra: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(**extra)


def test_requests_must_stand_together() -> None:
    with pytest.raises(DataError, match="together"):
        Rows(pa.table({"x": [1, 2, 3]}), groups=np.array([0, 1, 0]))


@pytest.mark.parametrize("values", [np.zeros((2, 2), np.float32), np.zeros((2, 1)), np.array([[0], [np.nan]], np.float32)])
def test_bad_predictions_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError):
        Predictions(("click",), values)


# -- explore ----------------------------------------------------------------------------------------


class EpsilonGreedy(Policy):
    """Counts rewards; with probability 0.2 a random item, without putting back."""

    name = "test"

    def _begin(self, dataset, fitting):
        self.value = np.zeros(dataset.n_items)

    def _step(self, left: np.ndarray) -> np.ndarray:
        p = np.where(left, 0.2 / left.sum(), 0.0)
        p[np.argmax(np.where(left, self.value, -np.inf))] += 0.8
        return p

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        items, chances = np.empty((len(requests), k), np.int32), np.empty((len(requests), k))
        for row in range(len(requests)):
            left = np.ones(len(self.value), bool)
            for at in range(k):
                p = self._step(left)
                items[row, at] = rng.choice(len(p), p=p)
                chances[row, at] = p[items[row, at]]
                left[items[row, at]] = False
        return Slate(items, chances)

    def update(self, requests: Requests, feedback: Feedback) -> None:
        np.add.at(self.value, feedback.slate.items, feedback.rewards)

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        out = np.empty(items.shape)
        for row in range(len(items)):
            left = np.ones(len(self.value), bool)
            for at, item in enumerate(items[row]):
                out[row, at] = self._step(left)[item]
                left[item] = False
        return out


def test_a_policy_logs_what_it_did_and_learns() -> None:
    policy, asked = EpsilonGreedy().fit(Dataset.from_columns([0] * 5, range(5))), Requests.of_histories([[]] * 2000)
    slate = policy.act(asked, 2, generator(0, "act"))
    np.testing.assert_allclose(policy.propensities(asked, slate.items), slate.propensities)
    again = policy.act(asked, 2, generator(0, "act"))
    np.testing.assert_array_equal(again.items, slate.items)
    # with the logged propensities any other policy's reward is estimated without bias: here "always 1, then 0"
    rewards = (slate.items == 1).astype(float)
    match = (slate.items == [1, 0]).all(axis=1)
    estimate = np.mean(match / slate.joint * rewards.sum(axis=1))
    spread = np.std(match / slate.joint) / np.sqrt(len(slate))
    assert 0 < spread < 0.2 and abs(estimate - 1) < 4 * spread
    policy.update(asked, Feedback(slate, rewards))
    later = policy.act(asked, 2, generator(1, "act"))
    assert (later.items[:, 0] == 1).mean() > 0.7


def slate(items=((1, 2), (3, -1)), p=((0.5, 0.25), (0.1, 1.0)), marginals=None) -> Slate:
    return Slate(np.array(items), np.array(p), None if marginals is None else np.array(marginals))


def test_probabilities_of_slates_by_hand() -> None:
    made = slate()
    assert made.joint.tolist() == [0.125, 0.1] and made.prefix.tolist() == [[0.5, 0.125], [0.1, 0.1]]
    assert made.take(np.array([1])).items.tolist() == [[3, -1]] and len(made) == 2
    assert Feedback(made, np.array([[1, np.nan], [1, 0]])).total.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": ((0.5, 0.0), (0.1, 1.0))}, "row 0"),
        ({"p": ((0.5, 0.2), (1.1, 1.0))}, "row 1"),
        ({"p": ((0.5, 0.2), (np.nan, 1.0))}, "row 1"),
        ({"p": ((0.5, 0.2), (0.1, 0.9))}, "empty position"),
        ({"p": ((0.5,), (0.1,))}, "shape"),
        ({"marginals": ((0.5, 0.2), (-0.1, 1.0))}, "marginals, row 1"),
        ({"items": ((1, 1), (3, -1))}, "twice"),
        ({"items": ((1, 2), (-1, 3))}, "after the end"),
        ({"items": ((1, 2), (3, -2))}, "below -1"),
    ],
)
def test_bad_slates_are_refused_with_the_row(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        slate(**change)


@pytest.mark.parametrize("rewards", [[[1, 0]], [[1, np.inf], [0, 0]], [[0, 0], [0, 1]]])
def test_bad_feedback_is_refused(rewards: list) -> None:
    with pytest.raises(DataError):
        Feedback(slate(), np.array(rewards, float))


def test_a_policy_without_propensities_refuses() -> None:
    class Blind(EpsilonGreedy):
        propensities = Policy.propensities

    with pytest.raises(UnsupportedError, match="Blind"):
        Blind().propensities(Requests.of_histories([[]]), np.array([[0]]))


# -- converse ---------------------------------------------------------------------------------------


class Patient(Agent):
    """Asks for the genre once, then offers what was not refused."""

    def act(self, session: Session) -> Act:
        if "genre" not in session.stated:
            return Ask(("genre",), choices=("jazz", "rock"))
        left = [item for item in range(4) if item not in session.offered]
        return Offer(np.array(left[:2], np.int32)) if left else Say("I have nothing else.")


def test_a_conversation_to_its_end() -> None:
    agent, session = Patient(), Session(user=3)
    first = agent.act(session)
    assert isinstance(first, Ask)
    session = session.after(Turn("agent", act=first)).after(Turn("person", answers={"genre": ("jazz",)}))
    assert session.stated == {"genre": ("jazz",)} and agent.act_many([session, Session()])[1] == first
    session = session.after(Turn("agent", act=agent.act(session)))
    assert session.offered == [0, 1] and session.rejected == [] and session.accepted == -1
    session = session.after(Turn("person", text="neither"))
    assert session.rejected == [0, 1]
    session = session.after(Turn("agent", act=agent.act(session))).after(Turn("person", accepted=3))
    assert (session.accepted, session.rejected, session.offered) == (3, [0, 1, 2], [0, 1, 2, 3])
    assert agent.act(session) == Say("I have nothing else.") and len(Session(user=3).turns) == 0


def test_later_words_replace_earlier_ones() -> None:
    session = Session().after(Turn("person", answers={"genre": ("jazz",), "year": ("1959",)}))
    assert session.after(Turn("person", answers={"genre": ()})).stated == {"genre": (), "year": ("1959",)}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Ask(()),
        lambda: Say("  "),
        lambda: Offer(np.empty(0, np.int32)),
        lambda: Offer(np.array([1, 1])),
        lambda: Offer(np.array([1, -1])),
        lambda: Offer(np.array([1, 2]), reasons=("one",)),
        lambda: Turn("agent", text="hello"),
        lambda: Turn("person", act=Say("hello")),
        lambda: Session().after(Turn("person", accepted=3)),
    ],
)
def test_impossible_turns_are_refused(wrong) -> None:
    with pytest.raises(DataError):
        wrong()


# -- write ------------------------------------------------------------------------------------------


class Echo(Writer):
    """Repeats the last text of the profile."""

    def write(self, tasks, *, seed=0):
        return [Written(t.profile[-1], sources=(len(t.profile) - 1,)) for t in tasks if t.profile]


def test_a_writer_answers_every_task() -> None:
    tasks = [WriteTask("headline", "rain", ("a b", "c d")), WriteTask("headline", "sun", ("e",))]
    assert [w.text for w in Echo().write_checked(tasks)] == ["c d", "e"]
    with pytest.raises(DataError, match="one answer a task"):
        Echo().write_checked([*tasks, WriteTask("headline", "snow")])
    with pytest.raises(DataError, match="too long"):
        Echo().write_checked([WriteTask("headline", "rain", ("a b c",), max_words=2)])


@pytest.mark.parametrize("answer", [Written(" "), Written("x", sources=(2,)), Written("x", used=("price",))])
def test_answers_that_do_not_fit_are_refused(answer: Written) -> None:
    task = WriteTask("headline", "rain", ("a", "b"), {"year": "1999"})
    with pytest.raises(DataError):
        answer.check(task)
    Written("in 1999", sources=(1,), used=("year",)).check(task)
    Written("", picture=b"png").check(task)


def test_impossible_tasks_are_refused() -> None:
    with pytest.raises(DataError):
        WriteTask(" ", "rain")
    with pytest.raises(DataError):
        WriteTask("headline", "rain", max_words=-1)


# -- understand -------------------------------------------------------------------------------------


class Guess(Profiler):
    """Believes everybody to be young."""

    abilities = frozenset({"predict"})  # type: ignore[assignment]

    def predict(self, things, attributes=None):
        return [Profile("age", ("young", "old"), np.tile(np.float32([0.75, 0.25]), (len(things), 1)))]


def test_a_profiler_does_what_it_says_and_refuses_the_rest() -> None:
    people = Things("user", np.array([3, -1]))
    assert Guess().predict(people)[0].best == ["young", "young"]
    for ask in (Guess().embed, Guess().link):
        with pytest.raises(UnsupportedError, match="it can predict"):
            ask(people)
    assert len(Things("mention", texts=["a", "b", "c"])) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Things("user"),
        lambda: Things("user", np.zeros((2, 2))),
        lambda: Things("item", np.array([1, 2]), ["one"]),
        lambda: Profile("age", ("a", "b"), np.array([[0.5, 0.4]])),
        lambda: Profile("age", ("a", "b"), np.array([[1.5, -0.5]])),
        lambda: Profile("age", ("a",), np.array([[0.5, 0.5]])),
        lambda: Links(np.array([[1, 2]]), np.array([[0.1, 0.2]])),
        lambda: Links(np.array([[1, -1]]), np.array([[0.2, 0.1]])),
        lambda: Links(np.array([[1, 1]]), np.array([[0.2, 0.1]])),
        lambda: Links(np.array([[1, 2]]), np.array([[0.2, np.nan]])),
        lambda: Links(np.array([[1]]), np.array([[0.2, 0.1]])),
    ],
)
def test_impossible_answers_are_refused(wrong) -> None:
    with pytest.raises(DataError):
        wrong()
    assert len(Links(np.array([[4, -1]]), np.array([[0.5, -np.inf]]))) == 1
