"""Linear policies: every form is one ridge regression, by its own inverse; bounds, draws, and what is learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.policy import Feedback, Slate
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.errors import ConfigError, DataError
from palate.explore import linear as module
from palate.explore.cascade_linear import CascadeLinTS, CascadeLinUCB
from palate.explore.features import ArmFeatures
from palate.explore.lin_ts import LinTS
from palate.explore.linear import FORMS
from palate.explore.linucb import LinUCB
from palate.runtime import generator
from palate.simulate.bandits import LinearWorld

N, P, ITEMS = 400, 3, 5
RNG = np.random.default_rng(0)
FEATURES = ArmFeatures(RNG.normal(size=(ITEMS, P)), ("hour",))
X = np.column_stack([np.ones(N), RNG.normal(size=N)])
CHOSEN, REWARDS = RNG.integers(ITEMS, size=N), RNG.normal(size=N)


def design(form: str, x: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the rows of the one regression that a form is: shared weights first, then those of each item."""
    z = FEATURES.table[items]
    if form == "shared":
        return np.einsum("na,nb->nab", x, np.column_stack([np.ones(len(z)), z])).reshape(len(x), -1)
    own = np.zeros((len(x), ITEMS, x.shape[1]))
    own[np.arange(len(x)), items] = x
    own = own.reshape(len(x), -1)
    return own if form == "disjoint" else np.concatenate([np.einsum("na,nb->nab", x, z).reshape(len(x), -1), own], axis=1)


@pytest.mark.parametrize("form", ["shared", "disjoint", "hybrid"])
def test_every_form_is_a_ridge_regression(form: str) -> None:
    learner = FORMS[form].begin(FEATURES, 0.7)
    for rows in np.array_split(np.arange(N), 7):
        learner.learn(X[rows], CHOSEN[rows], REWARDS[rows])
    rows = design(form, X, CHOSEN)
    inverse = np.linalg.inv(0.7 * np.eye(rows.shape[1]) + rows.T @ rows)
    asked = np.column_stack([np.ones(6), np.linspace(-2, 2, 6)])
    mean, width = learner.estimates(asked)
    for item in range(ITEMS):
        at = design(form, asked, np.full(6, item))
        np.testing.assert_allclose(mean[:, item], at @ inverse @ rows.T @ REWARDS, atol=1e-8)
        np.testing.assert_allclose(width[:, item], np.sqrt(np.einsum("nd,de,ne->n", at, inverse, at)), atol=1e-8)


@pytest.mark.parametrize("form", ["shared", "disjoint"])
def test_draws_have_the_posterior_s_mean_and_spread(form: str) -> None:
    learner = FORMS[form].begin(FEATURES, 1.0)
    learner.learn(X[:60], CHOSEN[:60], REWARDS[:60])
    asked = np.column_stack([np.ones(3), [-1.0, 0.0, 1.0]])
    mean, width = learner.estimates(asked)
    drawn = learner.sampled(asked, learner.weights(np.random.default_rng(1), 20_000, 0.5))
    np.testing.assert_allclose(drawn.mean(axis=1), mean, atol=5 * 0.5 * width.max() / np.sqrt(20_000))
    np.testing.assert_allclose(drawn.std(axis=1), 0.5 * width, rtol=0.03)


WORLD = LinearWorld(20, 3, seed=1)


def lived(policy, rounds=300, seed=0, batch=10):
    """Let a policy live in the linear world."""
    policy.fit(WORLD.dataset, seed=seed)
    rng = generator(seed, "life")
    for start in range(0, rounds, batch):
        asked = WORLD.requests(start, batch, rng)
        slate = policy.act(asked, 3, rng)
        policy.update(asked, Feedback(slate, WORLD.clicks(WORLD.shown(asked, slate.items), rng.random((batch, 3)))))
    return policy


@pytest.mark.parametrize(
    "policy",
    [
        LinUCB(context=WORLD.columns, alpha=0.3),
        LinUCB(context=WORLD.columns, alpha=0.3, form="disjoint"),
        LinUCB(context=WORLD.columns, alpha=0.3, form="hybrid"),
        LinTS(context=WORLD.columns),
        LinTS(context=WORLD.columns, form="disjoint"),
        CascadeLinUCB(context=WORLD.columns, c=0.3),
        CascadeLinTS(context=WORLD.columns, sigma=0.5),
    ],
    ids=lambda p: f"{p.name} {getattr(p.config, 'form', '')}",
)
def test_it_learns_whom_to_show_what(policy) -> None:
    lived(policy, rounds=2_000)
    asked = WORLD.requests(0, 300, generator(5))
    got = WORLD.value(asked, policy.act(asked, 3, generator(6)).items).mean()
    best = WORLD.best(asked).mean()
    lot = np.mean(
        [
            WORLD.value(asked, np.tile(row, (300, 1))).mean()
            for row in generator(7).permuted(np.tile(np.arange(20), (50, 1)), axis=1)[:, :3]
        ]
    )
    assert got > lot + 0.5 * (best - lot)


@pytest.mark.parametrize("form", ["shared", "disjoint", "hybrid"])
@pytest.mark.parametrize("kind", [LinUCB, LinTS, CascadeLinUCB, CascadeLinTS])
def test_some_items_have_the_values_that_they_have_among_all(kind, form) -> None:
    settings = {"form": form} if kind is LinUCB or (kind is LinTS and form != "hybrid") else {}
    policy = lived(kind(context=WORLD.columns, history=True, **settings), rounds=20)
    asked, items = WORLD.requests(0, 1, generator(3)), np.array([7, 0, 19, 4])
    asked = replace(asked, histories=Histories.from_rows([[3, 5]]))
    np.testing.assert_allclose(policy._values_among(asked, items), policy._values(asked)[0][:, items], rtol=1e-10)
    assert policy.context_columns == WORLD.columns and policy.reads_histories


def test_the_bound_by_hand() -> None:
    policy = lived(LinUCB(context=WORLD.columns, alpha=0.7))
    asked = WORLD.requests(0, 4, generator(1))
    mean, width = policy.learner_.estimates(policy.learner_.features.of_requests(asked))
    np.testing.assert_allclose(policy._values(asked)[:, 0], mean + 0.7 * width)
    slate = policy.act(asked, 3, generator(0))
    assert (slate.propensities == 1).all()
    lots = LinUCB(policy.config, epsilon=0.3).fit(WORLD.dataset)
    assert (lots.act(asked, 3, generator(0)).propensities < 1).all()


def test_cascading_forms_are_the_regressions_with_their_scale() -> None:
    """M = I + σ⁻² Σ x xᵀ, θ̂ = σ⁻² M⁻¹ Σ r x: the paper's numbers from A = σ² M."""
    policy = lived(CascadeLinUCB(context=WORLD.columns, sigma=0.4, c=1.5), rounds=50)
    shared = policy.learner_
    x = shared.features.of_requests(WORLD.requests(0, 50, generator(3)))
    fresh = FORMS["shared"].begin(shared.features, 0.4**2)
    items, clicks = np.arange(50) % 20, np.arange(50) % 3 == 0
    fresh.learn(x, items, clicks.astype(float))
    rows = np.einsum("na,nb->nab", x, fresh.items[items]).reshape(50, -1)
    m = np.eye(rows.shape[1]) + rows.T @ rows / 0.4**2
    theta = np.linalg.solve(m, rows.T @ clicks) / 0.4**2
    mean, width = fresh.estimates(x)
    picked = np.arange(50), items
    np.testing.assert_allclose(mean[picked], rows @ theta, atol=1e-8)
    np.testing.assert_allclose(0.4 * width[picked], np.sqrt(np.einsum("nd,de,ne->n", rows, np.linalg.inv(m), rows)), atol=1e-8)
    assert policy._values(WORLD.requests(0, 5, generator(4))).max() <= 1.0


def test_a_cascading_draw_ranks_the_whole_slate() -> None:
    policy = lived(CascadeLinTS(context=WORLD.columns, draws=4))
    asked = WORLD.requests(0, 1, generator(1)).take(np.zeros(200, np.int64))
    slate = policy.act(asked, 3, generator(0))
    wanted = {tuple(row) for row in np.argsort(-policy._values(asked.take(np.array([0])))[0], axis=1)[:, :3].tolist()}
    assert {tuple(row) for row in slate.items.tolist()} == wanted
    assert np.isin(np.round(slate.joint * 4, 9), [1, 2, 3, 4]).all()


def test_histories_are_context_without_a_table() -> None:
    """People who had items of one kind click items of that kind."""
    from palate.contracts.conformance_bench import small_world

    data = small_world()
    policy = LinUCB(history=True, alpha=0.2, item_features=("categories",)).fit(data)
    rng = generator(0)
    for _ in range(150):
        asked = Requests.of_histories([[0, 1, 2], [13, 14, 15]], exclude_seen=False)
        slate = policy.act(asked, 3, rng)
        same = (slate.items < 11) == np.array([[True], [False]])
        policy.update(asked, Feedback(slate, same * 1.0, np.ones((2, 3), bool)))
    found = policy.act(Requests.of_histories([[4, 5], [18, 20]], exclude_seen=False), 3, rng).items
    assert (found[0] < 11).all() and ((found[1] >= 11) & (found[1] < 23)).all()


def test_a_missing_context_is_refused_and_nothing_is_learnt() -> None:
    policy = lived(LinUCB(context=WORLD.columns))
    before = {name: array.copy() for name, array in policy._state().items()}
    bare = Requests.of_histories([[]])
    with pytest.raises(DataError, match="context"):
        policy.act(bare, 2, generator(0))
    with pytest.raises(DataError, match="context"):
        policy.update(bare, Feedback(Slate(np.array([[1]]), np.ones((1, 1))), np.ones((1, 1))))
    for name, array in policy._state().items():
        np.testing.assert_array_equal(array, before[name])


def test_too_many_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    for form in ("shared", "disjoint", "hybrid"):
        with pytest.raises(ConfigError, match="fewer features"):
            LinUCB(form=form, context=WORLD.columns).fit(WORLD.dataset)


def test_context_is_read_by_name() -> None:
    policy = lived(LinUCB(context=WORLD.columns))
    asked = WORLD.requests(0, 5, generator(2))
    turned = Requests(
        asked.users,
        Histories.empty(5),
        context=asked.context.select(asked.context.column_names[::-1]).append_column("more", pa.array(range(5))),
    )
    np.testing.assert_array_equal(policy.act(asked, 3, generator(0)).items, policy.act(turned, 3, generator(0)).items)
