"""GRU4Rec: what it learns, sessions, the same bits alone or in a batch, saved or not."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.recommend.gru4rec import GRU4Rec, training_sequences

N = 30
SMALL = {"dim": 16, "hidden": 24, "epochs": 12, "batch_size": 128, "n_negatives": 32, "dropout": 0.0, "max_len": 12, "lr": 0.01}


def chain(users=120, seed=0):
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(N)
    step = np.empty(N, int)
    step[cycle] = np.roll(cycle, -1)
    user, item = [0] * N, list(range(N))
    for u in range(1, users):
        at = rng.integers(N)
        for _ in range(rng.integers(2, 25)):
            user.append(u)
            item.append(int(at))
            at = step[at] if rng.random() > 0.1 else rng.integers(N)
    return Dataset.from_columns(np.array(user), np.array(item), time=np.arange(len(user))), step


DATA, STEP = chain()


@pytest.fixture(scope="module")
def model():
    return GRU4Rec(**SMALL).fit(DATA)


def first_answers(model):
    return model.recommend(Requests.of_histories([[i] for i in range(N)], exclude_seen=False), 1).items[:, 0]


@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax", "bpr_max", "top1_max"])
def test_every_loss_learns_the_chain(loss):
    fitted = GRU4Rec(**{**SMALL, "loss": loss, "temperature": 0.2}).fit(DATA)
    assert (first_answers(fitted) == STEP).mean() > 0.85


@pytest.mark.parametrize("negatives", ["uniform", "in_batch"])
def test_other_negatives_learn_the_chain(negatives):
    assert (first_answers(GRU4Rec(**SMALL, negatives=negatives).fit(DATA)) == STEP).mean() > 0.85


def test_resumes_to_the_bit(tmp_path):
    small = {**SMALL, "epochs": 4, "dropout": 0.2}
    whole = GRU4Rec(**small).fit(DATA, seed=4)
    GRU4Rec(**{**small, "epochs": 1}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = GRU4Rec(**small).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_two_layers_learn_the_chain():
    assert (first_answers(GRU4Rec(**SMALL, layers=2).fit(DATA)) == STEP).mean() > 0.85


def test_the_state_remembers_more_than_the_last_item(model):
    vectors = model.request_vectors(Requests.of_histories([[1, 2, 3], [9, 8, 3]]))
    assert not np.allclose(vectors[0], vectors[1])


def test_states_have_the_same_bits_alone_in_a_batch_and_in_any_order(model):
    rng = np.random.default_rng(2)
    asked = Requests.of_histories([rng.integers(0, N, n).tolist() for n in rng.integers(1, 30, 180)])
    together = model.request_vectors(asked)
    order = rng.permutation(len(asked))
    np.testing.assert_array_equal(model.request_vectors(asked.take(order)), together[order])
    for row in range(0, len(asked), 11):
        np.testing.assert_array_equal(model.request_vectors(asked.take(np.array([row])))[0], together[row])


def test_saved_and_loaded_answers_are_equal(model, tmp_path):
    model.save(tmp_path / "bundle")
    again = GRU4Rec.load(tmp_path / "bundle")
    asked = Requests.of_users(DATA, np.arange(50))
    before, after = model.recommend(asked, 10), again.recommend(asked, 10)
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_a_seed_fixes_everything(model):
    np.testing.assert_array_equal(GRU4Rec(**SMALL).fit(DATA).item_vectors, model.item_vectors)


def test_people_without_history_get_popular_items(model):
    answer = model.recommend(Requests.of_histories([[], [3]]), 5)
    assert answer.cold.tolist() == [True, False]


def with_sessions():
    base = Dataset.from_columns([0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 0])
    events = Interactions.sorted(base.interactions.user, base.interactions.item, session=np.array([0, 0, 1, 1, 1, 2]))
    return base.derive({"step": "sessions"}, interactions=events)


def test_sessions_are_sequences_of_their_own():
    dataset = with_sessions()
    assert training_sequences(dataset).ragged.tolist() == [[0, 1], [2, 3, 4], [0]]
    assert training_sequences(dataset, "user").ragged.tolist() == [[0, 1, 2, 3, 4], [0]]
    assert training_sequences(DATA).ragged.tolist() == DATA.histories.ragged.tolist()


def test_sessions_that_interleave_keep_their_own_order():
    events = Interactions.sorted(np.zeros(4, int), np.arange(4), time=np.arange(4), session=np.array([1, 0, 1, 0]))
    base = Dataset.from_columns([0] * 4, [0, 1, 2, 3])
    assert training_sequences(base.derive({"step": "s"}, interactions=events)).ragged.tolist() == [[1, 3], [0, 2]]


def test_training_on_sessions_never_crosses_them():
    fitted = GRU4Rec(dim=8, hidden=8, epochs=2, n_negatives=4, batch_size=4).fit(with_sessions())
    assert np.isfinite(fitted.item_vectors).all()
