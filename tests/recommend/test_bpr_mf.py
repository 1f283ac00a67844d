"""BPR-MF: what it learns, the fold-in of other histories, the exact split of a score, resumption."""

import copy

import numpy as np
import pytest

from palate.contracts.growth import grown
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.errors import ConfigError, TrainingError
from palate.recommend.bpr_mf import BPRMF, _Factors

HALF = 20


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    user = np.repeat(np.arange(users), 6)
    first = (np.arange(2 * HALF), np.zeros(2 * HALF, int) + users)
    return Dataset.from_columns(np.concatenate([first[1], user]), np.concatenate([first[0], *rows]))


DATA = two_tastes()
SMALL = {"dim": 8, "epochs": 30}


@pytest.fixture(scope="module")
def model():
    return BPRMF(**SMALL).fit(DATA)


def share_of_own_taste(model, requests):
    found = model.recommend(requests, 5).items
    history = requests.histories.items[requests.histories.offsets[:-1]]
    return ((found < HALF) == (history < HALF)[:, None]).mean()


def test_known_and_unseen_people_get_their_taste(model):
    users = np.arange(1, 100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    assert share_of_own_taste(model, known) > 0.95
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    assert share_of_own_taste(model, unseen) > 0.95


def test_own_history_gives_the_trained_vector():
    """The free part and the fold-in add up to what descent found."""
    made = {}

    class Kept(BPRMF):
        def _finish(self, factors, histories):
            made["people"] = factors.people.detach().numpy().copy()
            super()._finish(factors, histories)

    model = Kept(**SMALL).fit(DATA)
    users = np.arange(DATA.n_users, dtype=np.int32)
    vectors = model.request_vectors(Requests.of_users(DATA, users))
    np.testing.assert_allclose(vectors[:, :-1], made["people"], atol=1e-5)
    np.testing.assert_array_equal(vectors[:, -1], 1)


def test_another_history_moves_a_known_person(model):
    users = np.array([1], np.int32)
    own = DATA.histories.take(users)
    other = Histories.from_rows([np.concatenate([own.items, (own.items + HALF) % (2 * HALF)])])
    before, after = (model.request_vectors(Requests(users, h)) for h in (own, other))
    assert np.abs(before - after).max() > 1e-3


def test_explanation_adds_up(model):
    request = Requests.of_users(DATA, np.array([3], np.int32))
    why = model.explain(request, 7)
    assert why.exact
    assert len(why.evidence) == 6
    np.testing.assert_allclose(sum(e.weight for e in why.evidence) + why.rest, why.score, atol=1e-5)


def test_no_bias_and_similar_items(model):
    plain = BPRMF(**SMALL, bias=False).fit(DATA)
    assert not plain.item_vectors[:, -1].any()
    for fitted in (model, plain):
        alike = fitted.similar(np.arange(2 * HALF), 3)
        assert ((alike.items < HALF) == (np.arange(2 * HALF) < HALF)[:, None]).mean() > 0.9


def test_resumes_to_the_bit(tmp_path):
    whole = BPRMF(**SMALL).fit(DATA, seed=4)
    BPRMF(**{**SMALL, "epochs": 11}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = BPRMF(**SMALL).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
    with pytest.raises(TrainingError, match="another fit"):
        BPRMF(**SMALL, reg=0.5).fit(DATA, seed=4, checkpoint=tmp_path)
    with pytest.raises(TrainingError, match="data"):
        BPRMF(**SMALL).fit(two_tastes(seed=1), seed=4, checkpoint=tmp_path)


def test_hard_negatives_are_the_highest_scored_unseen_items():
    """Against uniform ones from the same start: harder, never had, and the model still learns."""
    seen, chosen = DATA.matrix().toarray(), []

    class Watching(_Factors):
        def descend(self, batch, generator):
            kept = batch.negatives >= 0
            assert not seen[batch.users[kept], batch.negatives[kept]].any()
            scores = self.scores(batch.users[kept], np.arange(2 * HALF, dtype=np.int32)[None].repeat(kept.sum(), 0))
            own = np.take_along_axis(scores, batch.negatives[kept][:, None], 1)
            chosen.append((scores <= own).mean())
            return super().descend(batch, generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("palate.recommend.bpr_mf._Factors", Watching)
        hard = BPRMF(**SMALL, n_candidates=8).fit(DATA)
        level = float(np.mean(chosen[:3]))
        chosen.clear()
        BPRMF(**SMALL).fit(DATA)
    assert level > float(np.mean(chosen[:3])) + 0.2
    assert share_of_own_taste(hard, Requests.of_users(DATA, np.arange(1, 100, dtype=np.int32))) > 0.9


def test_hard_negatives_resume_to_the_bit(tmp_path):
    small = {"dim": 8, "epochs": 6, "n_candidates": 4}
    whole = BPRMF(**small).fit(DATA, seed=4)
    BPRMF(**{**small, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = BPRMF(**small).fit(DATA, seed=4, checkpoint=tmp_path)
    np.testing.assert_array_equal(whole.item_vectors, resumed.item_vectors)
    with pytest.raises(TrainingError, match="another fit"):
        BPRMF(**{**small, "n_candidates": 1}).fit(DATA, seed=4, checkpoint=tmp_path)


def test_divergence_is_named():
    with pytest.raises(TrainingError, match="not a number") as caught:
        BPRMF(dim=8, lr=1e18, epochs=3).fit(DATA)
    assert "lr" in str(caught.value)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="lr"):
        BPRMF(lr=0)


def first_factors(model, data):
    """Update a copy; return the vectors from which descent begins, and the copy."""
    begun = {}

    class Watching(_Factors):
        def take_up(self, former, histories):
            super().take_up(former, histories)
            begun.update({name: value.detach().numpy().copy() for name, value in self.named_parameters()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("palate.recommend.bpr_mf._Factors", Watching)
        updated = copy.copy(model).update(data)
    return begun, updated


def test_an_update_begins_from_what_was_learnt():
    seen = DATA.interactions
    early = (seen.user < 100) & (seen.item != 3)
    past = Dataset.from_columns(DATA.users.ids.decode(seen.user[early]), DATA.items.ids.decode(seen.item[early]))
    model = BPRMF(**SMALL).fit(past)
    whole = grown(DATA, model)
    users = np.arange(whole.n_users, dtype=np.int32)
    numbers = np.where(users < past.n_users, users, -1).astype(np.int32)
    known = np.flatnonzero(past.histories.lengths > 0)
    begun, updated = first_factors(model, whole)
    asked = Requests.of_users(past, np.arange(past.n_users, dtype=np.int32))
    np.testing.assert_allclose(begun["people"][known], model.request_vectors(asked)[known, :-1], atol=1e-5)
    newcomer = int(np.flatnonzero((numbers < 0) & (whole.histories.lengths > 0))[0])
    old_items = [i for i in whole.histories.ragged[newcomer].tolist() if i < past.n_items]
    folded = model.request_vectors(Requests.of_histories([old_items]))[0, :-1] * np.sqrt(len(old_items))
    own = len(np.unique(whole.histories.ragged[newcomer]))
    np.testing.assert_allclose(begun["people"][newcomer], folded / np.sqrt(own), atol=1e-5)
    np.testing.assert_array_equal(begun["items"][: past.n_items], model.item_vectors[:, :-1])
    new_item = whole.items.ids.number(3)
    assert new_item >= past.n_items and begun["items"][new_item].any()
    assert begun["bias"][new_item] == model.item_vectors[:, -1].min()
    assert updated.record_.notes["epochs"] == updated.config.update_epochs
    raw = whole.items.ids.raw.to_numpy() < HALF
    asked = Requests.of_users(whole, users[whole.users.ids.raw.to_numpy() < 120])
    first = asked.histories.items[asked.histories.offsets[:-1]]
    assert (raw[updated.recommend(asked, 5).items] == raw[first][:, None]).mean() > 0.95
    fresh = BPRMF(**{**SMALL, "epochs": 1}).fit(whole).record_.notes["curve"][0][1]
    assert updated.record_.notes["curve"][0][1] < 0.7 * fresh
