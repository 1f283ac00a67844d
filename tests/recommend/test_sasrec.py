"""SASRec: what it learns, unseen people, the same bits alone or in a batch, saved or not."""

import copy

import numpy as np
import pytest

from palate.contracts.growth import grown
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError
from palate.recommend.sasrec import SASRec

N = 40


def chain(users=150, noise=0.1, seed=0):
    """People who walk a fixed random cycle of items, with some noise; item numbers equal the raw ids."""
    rng = np.random.default_rng(seed)
    after = np.roll(rng.permutation(N), 1)
    step = np.empty(N, int)
    step[after] = np.roll(after, -1)
    user, item = list(np.zeros(N, int)), list(range(N))
    for u in range(1, users):
        at = rng.integers(N)
        for _ in range(rng.integers(2, 25)):
            user.append(u)
            item.append(int(at))
            at = step[at] if rng.random() > noise else rng.integers(N)
    return Dataset.from_columns(np.array(user), np.array(item), time=np.arange(len(user))), step


DATA, STEP = chain()
SMALL = {"dim": 16, "epochs": 12, "batch_size": 128, "n_negatives": 32, "dropout": 0.1, "max_len": 12, "lr": 0.01}


@pytest.fixture(scope="module")
def model():
    return SASRec(**SMALL).fit(DATA)


def first_answers(model):
    asked = Requests.of_histories([[i] for i in range(N)], exclude_seen=False)
    return model.recommend(asked, 1).items[:, 0]


@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax", "gbce", "bce"])
def test_every_loss_learns_the_chain(loss):
    negatives = 4 if loss == "bce" else 32
    fitted = SASRec(**{**SMALL, "loss": loss, "n_negatives": negatives}).fit(DATA)
    assert (first_answers(fitted) == STEP).mean() > 0.9


@pytest.mark.parametrize(("layer", "positions"), [("prenorm", "start"), ("ligr", "none")])
def test_every_layer_learns_the_chain(layer, positions):
    fitted = SASRec(**SMALL, layer=layer, positions=positions).fit(DATA)
    assert (first_answers(fitted) == STEP).mean() > 0.9


def test_dot_similarity_and_corrected_popular_negatives():
    fitted = SASRec(**SMALL, similarity="dot", temperature=1.0, negatives="mixed").fit(DATA)
    assert (first_answers(fitted) == STEP).mean() > 0.9
    assert not np.allclose(np.linalg.norm(fitted.item_vectors, axis=1), 1)


@pytest.mark.parametrize("negatives", ["popularity", "mixed", "in_batch"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "bce"])
def test_every_kind_of_negatives_learns_the_chain(negatives, loss):
    fitted = SASRec(**{**SMALL, "n_negatives": 8}, negatives=negatives, loss=loss).fit(DATA)
    assert (first_answers(fitted) == STEP).mean() > 0.85


def test_bfloat16_learns_the_chain():
    assert (first_answers(SASRec(**SMALL, precision="bfloat16").fit(DATA)) == STEP).mean() > 0.85


@pytest.mark.parametrize("settings", [{}, {"loss": "bce", "n_negatives": 2}, {"negatives": "in_batch", "layer": "ligr"}])
def test_resumes_to_the_bit(tmp_path, settings):
    """Negatives, dropout, order and the optimiser go on as if the fit had never stopped."""
    small = {**SMALL, "epochs": 4, **settings}
    whole = SASRec(**small).fit(DATA, seed=4)
    SASRec(**{**small, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = SASRec(**small).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_states_have_the_same_bits_alone_in_a_batch_and_in_any_order(model):
    rng = np.random.default_rng(2)
    rows = [rng.integers(0, N, n).tolist() for n in [*range(1, 30), *rng.integers(1, 40, 200)]]
    asked = Requests.of_histories(rows)
    together = model.request_vectors(asked)
    order = rng.permutation(len(rows))
    np.testing.assert_array_equal(model.request_vectors(asked.take(order)), together[order])
    for row in range(0, len(rows), 7):
        alone = model.request_vectors(asked.take(np.array([row])))
        np.testing.assert_array_equal(alone[0], together[row])


def test_only_the_last_events_count(model):
    long = [list(range(20)), list(range(8, 20))]
    vectors = model.request_vectors(Requests.of_histories(long))
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_order_matters(model):
    vectors = model.request_vectors(Requests.of_histories([[1, 2, 3], [3, 2, 1]]))
    assert not np.allclose(vectors[0], vectors[1])


def test_people_without_history_get_popular_items(model):
    answer = model.recommend(Requests.of_histories([[], [3]]), 5)
    assert answer.cold.tolist() == [True, False]
    assert answer.items[0, 0] == DATA.item_counts.argmax()


def test_saved_and_loaded_answers_are_equal(model, tmp_path):
    model.save(tmp_path / "bundle")
    again = SASRec.load(tmp_path / "bundle")
    asked = Requests.of_users(DATA, np.arange(60))
    before, after = model.recommend(asked, 10), again.recommend(asked, 10)
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_a_seed_fixes_everything(model):
    np.testing.assert_array_equal(SASRec(**SMALL).fit(DATA).item_vectors, model.item_vectors)
    other = SASRec(**SMALL).fit(DATA, seed=1)
    assert not np.array_equal(other.item_vectors, model.item_vectors)


def test_explanation_names_the_item_that_decides(model):
    decides = int(np.flatnonzero(STEP == 7)[0])
    others = [i for i in range(N) if i not in (decides, 7)][:3]
    why = model.explain(Requests.of_histories([[*others, decides]]), 7)
    assert not why.exact
    assert why.evidence[0].subject == decides
    assert why.evidence[0].weight > 0


def test_items_without_events_and_a_one_item_catalogue():
    one = Dataset.from_columns(["a", "a", "b"], ["x", "x", "x"])
    fitted = SASRec(dim=8, epochs=1, n_negatives=4).fit(one)
    assert fitted.recommend(Requests.of_histories([[0]], exclude_seen=False), 3).items.tolist() == [[0, -1, -1]]


def test_heads_that_do_not_divide_dim_are_a_config_error():
    with pytest.raises(ConfigError, match="heads"):
        SASRec(dim=10, heads=4)


@pytest.mark.parametrize("setting", [{"loss": "hinge"}, {"dropout": 1.0}, {"temperature": 0}])
def test_wrong_settings_are_config_errors(setting):
    with pytest.raises(ConfigError):
        SASRec(**setting)


def test_an_update_learns_items_that_came_since(model):
    """Fitted without a fifth of the items, then updated: the whole chain is known, in a fraction of the steps."""
    events = DATA.interactions
    kept = events.item >= N // 5
    past = Dataset.from_columns(events.user[kept], events.item[kept], time=events.time[kept])
    former = SASRec(**SMALL).fit(past)
    whole = grown(DATA, former)
    updated = copy.copy(former).update(whole)
    assert updated.record_.notes["epochs"] == updated.config.update_epochs < SMALL["epochs"] / 3
    raw = whole.items.ids.raw.to_numpy()
    answers = raw[first_answers(updated)]
    assert (answers == STEP[raw]).mean() > 0.9
    fresh = SASRec(**{**SMALL, "epochs": 1}).fit(whole).record_.notes["curve"][0][1]
    assert updated.record_.notes["curve"][0][1] < 0.8 * fresh
    assert len(former.item_vectors) == past.n_items
