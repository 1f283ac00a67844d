"""SlateTS: what it learns from slates, how it chooses, and that what it says about its chances is so."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.policy import Feedback
from palate.contracts.requests import Requests
from palate.data.dataset import Entities
from palate.data.ragged import Ragged
from palate.data.slates import SlateLog
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, NotFittedError, TrainingError
from palate.explore.slate_thompson import SlateThompson
from palate.nn.gaussian import normal_kl
from palate.simulate.slates import SlateMarket
from palate.training.slates import SlateWindows

SMALL = {"dim": 4, "epochs": 8, "batch_size": 40, "valid": 0.0, "draws": 16, "lr": 0.05}
MARKET = SlateMarket(users=160, items=40, groups=5, dim=4, slate=6, scale=8.0, seed=1)
DATA = MARKET.log(8)
KINDS = ("linear", "gru", "markov", "linear_gru")


@pytest.fixture(scope="module")
def fitted():
    return SlateThompson(**SMALL).fit(DATA)


def as_set(policy, **settings):
    """The same posterior with other settings of choosing."""
    other = SlateThompson(policy.config, **settings)
    other.__dict__.update({k: v for k, v in policy.__dict__.items() if k != "config"})
    return other


def asked(n=60, **extra):
    rng = np.random.default_rng(n)
    base = Requests.of_histories([rng.integers(0, 40, rng.integers(0, 9)).tolist() for _ in range(n)], exclude_seen=False)
    return replace(base, **extra)


# -- learning ---------------------------------------------------------------------------------------


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("at", [2, 6], ids=["in the first round", "in the second round"])
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(fitted, tmp_path, at):
    seen = []

    def kill(event):
        seen.append(event)
        if len(seen) == at:
            raise Killed

    with pytest.raises(Killed):
        SlateThompson(**SMALL).fit(DATA, checkpoint=tmp_path, callbacks=[kill])
    again = []
    resumed = SlateThompson(**SMALL).fit(DATA, checkpoint=tmp_path, callbacks=[again.append])
    assert len(again) == SMALL["epochs"] - at, "epochs were run again"
    for name, array in fitted._state().items():
        np.testing.assert_array_equal(resumed._state()[name], array)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    SlateThompson(**SMALL).fit(DATA, checkpoint=tmp_path)
    with pytest.raises(TrainingError, match="another fit"):
        SlateThompson(**SMALL).fit(MARKET.log(7), checkpoint=tmp_path)
    with pytest.raises(TrainingError, match="another fit"):
        SlateThompson(**SMALL).fit(DATA, seed=1, checkpoint=tmp_path)
    with pytest.raises(TrainingError, match="another fit"):  # its first round is longer, so its second begins elsewhere
        SlateThompson(**{**SMALL, "epochs": 12}).fit(DATA, checkpoint=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_movement_learns_more_than_even_chances(kind):
    test = MARKET.log(6, part="test")
    model = SlateThompson(**{**SMALL, "epochs": 24}, dynamics=kind).fit(DATA)
    untaught = SlateThompson(**{**SMALL, "epochs": 0}, dynamics=kind).fit(DATA)
    assert model.log_likelihood(test, given=3).mean() > untaught.log_likelihood(test, given=3).mean() + 0.2
    assert model.log_likelihood(test, given=3).mean() > -np.log(7) + 0.1


@pytest.mark.parametrize(("items", "likelihood"), [("flat", "slate"), ("hier", "unicand"), ("flat", "unicand")])
def test_the_other_forms_learn_too(items, likelihood):
    both = {**SMALL, "items": items, "likelihood": likelihood, "dynamics": "linear"}
    first, last = (SlateThompson(**{**both, "epochs": n}).fit(DATA).record_.notes["round 1"]["curve"][-1][1] for n in (1, 20))
    assert last < first - 0.1


def test_two_rounds_and_what_each_learns():
    half = SlateThompson(**{**SMALL, "first_round": 1.0}).fit(DATA)
    whole = SlateThompson(**{**SMALL, "epochs": 16}).fit(DATA)
    assert [whole.record_.notes[f"round {n}"]["epochs"] for n in (1, 2)] == [8, 8]
    before, after = half._state(), whole._state()
    for name in ("items.mean", "items.raw", "group_mean.mean", "group_scale.mean", "gamma.mean"):
        np.testing.assert_array_equal(before[name], after[name])
    assert not np.array_equal(before["matrices.mean"], after["matrices.mean"])
    start = SlateThompson(**{**SMALL, "epochs": 0}).fit(DATA)._state()
    np.testing.assert_array_equal(before["matrices.mean"], start["matrices.mean"])


def test_the_bound_of_an_epoch_is_that_of_the_whole_log():
    """Batches add up to the divergence of everything, each part once, and to the likelihood of every event over T."""
    policy = SlateThompson(**{**SMALL, "epochs": 0, "tempering": 0.25, "dynamics": "linear"}).fit(DATA)
    windows, model = SlateWindows(SlateLog.of(DATA), 40, 20), policy.model_
    with torch.no_grad():
        for gaussian in (model.group_mean, model.group_scale):  # so narrow that draws of groups are their means
            gaussian.raw.fill_(-40.0)
        noisy = torch.Generator().manual_seed(0)
        epoch = list(policy._epoch(windows, 1, np.random.default_rng(0)))
        total, likelihood, start = 0.0, 0.0, 0.0
        for batch in epoch:
            state = noisy.get_state()
            total += policy._loss(windows, "all", "linear", batch, noisy).item() * windows.n_learnt / len(epoch)
            noisy.set_state(state)
            found, own = model.log_likelihood(batch, "linear", noisy)
            model.item_divergence(batch.share, noisy)
            likelihood, start = likelihood + found.sum().item(), start + own.item()
        mean, spread = (g.mean[model.group] for g in (model.group_mean, model.group_scale))
        items = normal_kl(model.items.mean, model.items.scale, mean, spread.abs()).sum().item()
        rest = model.other_divergence("linear").item()
    assert len(epoch) == 4
    assert total == pytest.approx(-likelihood / 0.25 + start + items + rest, rel=2e-3)


def test_a_cooler_likelihood_makes_a_sharper_posterior():
    scales = [
        SlateThompson(**{**SMALL, "epochs": 30, "dynamics": "linear", "tempering": t}).fit(DATA).posterior_scales()["item"]
        for t in (0.05, 1.0)
    ]
    assert scales[0] < 0.8 * scales[1]


def test_people_held_out_stop_the_rounds():
    notes = SlateThompson(**{**SMALL, "valid": 0.3, "given": 2, "epochs": 40, "patience": 2}).fit(DATA).record_.notes
    assert notes["held out"] == 48 and notes["round 1"]["best_value"] < 0
    learnt = SlateThompson(**{**SMALL, "valid": 0.3, "given": 2}).fit(DATA)
    assert learnt.record_.notes["round 2"]["curve"][-1][2] is not None


def test_new_items_stand_at_their_group():
    few = DATA.impressions
    new = np.flatnonzero(MARKET.group == 2)[:3]
    without = few.filter(pa.array(~np.isin(few.column("item").to_numpy(), new)))
    policy = SlateThompson(**SMALL).fit(DATA.derive({"step": "new"}, impressions=without))
    model, labels = policy.model_, policy.model_.group.numpy()
    assert (policy.shown_[new] == 0).all()
    code = labels[new[0]]
    mean, spread = model.group_mean, model.group_scale
    wanted = (mean.scale[code] ** 2 + spread.mean[code] ** 2 + spread.scale[code] ** 2).sqrt()
    for item in new:
        torch.testing.assert_close(model.items.mean[item], mean.mean[code])
        torch.testing.assert_close(model.items.scale[item], wanted, rtol=1e-3, atol=1e-4)


def test_without_slates_it_is_its_prior():
    policy = SlateThompson(**SMALL).fit(replace(DATA, impressions=None))
    scales = policy.posterior_scales()
    assert policy.record_.notes["slates"] == 0 and scales["distance between items"] < 0.1
    slates = policy.act(asked(), 5, np.random.default_rng(0))
    assert len(np.unique(slates.items)) > 30
    flat = SlateThompson(**{**SMALL, "items": "flat", "prior_group": 1.5}).fit(replace(DATA, impressions=None))
    assert flat.posterior_scales()["item"] == pytest.approx(1.5, rel=1e-3)


def test_no_click_leaves_the_state():
    """What a person was shown and didn't click changes nothing of what comes next."""
    policy = SlateThompson(**{**SMALL, "dynamics": "linear"}).fit(DATA)
    click = SlateLog.of(DATA)
    kept = click.take(np.flatnonzero((click.person == 5) & (click.clicked >= 0)))
    assert len(kept) > 1
    double = kept.take(np.repeat(np.arange(len(kept)), 2))
    clicked = double.clicked.copy()
    clicked[::2] = -1
    double = replace(double, clicked=clicked)
    found = []
    for log in (kept, double):
        windows = SlateWindows(log, 40, 50)
        with torch.no_grad():
            values, _ = policy.model_.log_likelihood(windows.batch(np.array([0]), np.arange(0)), "linear", torch.Generator(), 0)
        found.append(values.numpy())
    np.testing.assert_allclose(found[1][1::2], found[0], rtol=1e-5)


# -- choosing ---------------------------------------------------------------------------------------


def test_greedy_is_the_order_of_distances(fitted):
    requests = asked()
    slates = as_set(fitted, strategy="greedy").act(requests, 7, np.random.default_rng(0))
    assert (slates.propensities == 1).all()
    model = fitted.model_
    with torch.no_grad():
        vectors = model.vectors(torch.Generator(), noise=0)
        clicks, lengths = fitted._clicks(requests)
        states = model.states(np.arange(40), vectors, clicks, lengths, "gru", torch.Generator(), 0.0)
        far = torch.cdist(states, vectors).numpy()
    np.testing.assert_allclose(np.take_along_axis(far, slates.items, 1), np.sort(far, axis=1)[:, :7], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strategy", ["thompson", "in_slate"])
def test_without_scale_exploring_is_greedy(fitted, strategy):
    requests, rng = asked(), np.random.default_rng(0)
    greedy = as_set(fitted, strategy="greedy").act(requests, 6, rng)
    quiet = as_set(fitted, strategy=strategy, noise=0.0, smoothing=0.0).act(requests, 6, rng)
    np.testing.assert_array_equal(quiet.items, greedy.items)
    assert (quiet.propensities == 1).all()
    narrow = SlateThompson.__new__(SlateThompson)
    narrow.__dict__.update(as_set(fitted, strategy=strategy, noise=1e-7, smoothing=0.0).__dict__)
    np.testing.assert_array_equal(narrow.act(requests, 6, rng).items, greedy.items)


def test_with_one_position_in_slate_is_thompson(fitted):
    both = [
        as_set(fitted, strategy=s, smoothing=0.0).act(asked(), 1, np.random.default_rng(4)) for s in ("thompson", "in_slate")
    ]
    np.testing.assert_array_equal(both[0].items, both[1].items)
    np.testing.assert_array_equal(both[0].propensities, both[1].propensities)


def test_thompson_shows_the_ranking_of_one_draw(fitted):
    """Every slate is the first k of some draw; in-slate mixes them, and so shows more different items."""
    requests, k = asked(50), 4
    policy = as_set(fitted, strategy="thompson", smoothing=0.0)
    rng = np.random.default_rng(9)
    values, pool = policy._values(requests, k, rng)
    tops = np.argsort(-values, axis=2, kind="stable")[:, :, :k]
    rankings = [{tuple(pool[row][top].tolist()) for top in tops[row]} for row in range(50)]
    slates = policy.act(requests, k, np.random.default_rng(9))
    assert all(tuple(items) in rankings[row] for row, items in enumerate(slates.items.tolist()))
    mixed = as_set(fitted, strategy="in_slate", smoothing=0.0).act(requests, k, np.random.default_rng(9))
    assert not all(tuple(items) in rankings[row] for row, items in enumerate(mixed.items.tolist()))


@pytest.mark.parametrize("strategy", ["greedy", "thompson", "in_slate"])
def test_propensities_are_the_chances_of_the_draws(fitted, strategy):
    """Given its joint draws, a slate comes as often as stated, and inverse weighting is unbiased."""
    policy = as_set(fitted, strategy=strategy, draws=8, smoothing=0.2, pool=5)
    n, k = 20_000, 2
    one = Requests.of_histories([[3, 7]], exclude_seen=False)
    values, pool = policy._values(one, k, np.random.default_rng(1))
    policy._values = lambda requests, k, rng: (
        np.repeat(values, len(requests), 0) if len(values) == 1 else values,
        np.repeat(pool, len(requests), 0),
    )
    slates = policy.act(Requests.of_histories([[3, 7]] * n, exclude_seen=False), k, np.random.default_rng(2))
    stated = {tuple(s): float(p) for s, p in zip(slates.items.tolist(), slates.joint, strict=True)}
    assert sum(stated.values()) == pytest.approx(1.0, abs=0.01)
    for slate, count in Counter(map(tuple, slates.items.tolist())).items():
        assert count / n == pytest.approx(stated[slate], abs=4 * np.sqrt(stated[slate] / n))
    again = policy.propensities(Requests.of_histories([[3, 7]] * 500, exclude_seen=False), slates.items[:500])
    np.testing.assert_allclose(again, slates.propensities[:500])
    if strategy == "greedy":
        return
    reward, target = np.linspace(0, 1, 40), pool[0]  # the value of an even first position, estimated from the log
    estimate = (1 / 5) / slates.propensities[:, 0] * reward[slates.items[:, 0]]
    assert estimate.mean() == pytest.approx(reward[target].mean(), abs=4 * estimate.std() / np.sqrt(n))


def test_propensities_of_given_slates(fitted):
    requests = asked(20)
    greedy = as_set(fitted, strategy="greedy")
    best = greedy.act(requests, 3, np.random.default_rng(0)).items
    assert (greedy.propensities(requests, best) == 1).all()
    wrong = best[:, ::-1]
    assert (greedy.propensities(requests, wrong) == 0).all()
    policy = as_set(fitted, smoothing=0.1)
    found = policy.propensities(requests, wrong)
    assert (found > 0).all() and (found <= 1).all()
    np.testing.assert_array_equal(found, policy.propensities(requests, wrong))
    outside = as_set(fitted, pool=3).propensities(requests, np.full((20, 1), 39))
    held = as_set(fitted, pool=3)._values(requests, 1, np.random.default_rng(0))[1]
    assert ((outside[:, 0] > 0) == (held == 39).any(1)).all()


@pytest.mark.parametrize("strategy", ["greedy", "thompson", "in_slate"])
def test_exclude_candidates_and_short_pools(fitted, strategy):
    policy, rng = as_set(fitted, strategy=strategy), np.random.default_rng(0)
    requests = asked(30, exclude=Ragged.from_rows([[1, 2, 3]] * 30), candidates=Ragged.from_rows([[3, 5, 2, 9, 5]] * 30))
    slates = policy.act(requests, 4, rng)
    assert set(np.unique(slates.items).tolist()) == {-1, 5, 9}
    assert (slates.items[:, 2:] == -1).all() and (slates.propensities[:, 2:] == 1).all()
    assert (policy.act(asked(5), 99, rng).items[:, :40] >= 0).all()
    nothing = policy.act(asked(3, candidates=Ragged.from_rows([[], [4], [4, 6]])), 2, rng)
    assert (nothing.items >= 0).sum(1).tolist() == [0, 1, 2]
    assert policy.act(asked(30).take(np.arange(0)), 4, rng).items.shape == (0, 4)


def test_unseen_people_are_answered_from_their_history(fitted):
    """A history of one group asks for that group, whoever has it."""
    policy = as_set(SlateThompson(**{**SMALL, "epochs": 40, "dynamics": "linear"}).fit(DATA), strategy="greedy")
    rows = [np.flatnonzero(MARKET.group == g)[:4].tolist() for g in range(5)]
    slates = policy.act(Requests.of_histories(rows, exclude_seen=False), 5, np.random.default_rng(0))
    near = np.linalg.norm(MARKET.vectors[:, None] - MARKET.vectors, axis=2)
    own = np.array([near[np.ix_(slates.items[g], rows[g])].mean() for g in range(5)])
    other = np.array([near[np.ix_(slates.items[g], rows[(g + 2) % 5])].mean() for g in range(5)])
    assert own.mean() < other.mean()


def test_a_generator_fixes_a_slate(fitted):
    first, second = (fitted.act(asked(), 5, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.propensities, second.propensities)
    assert not np.array_equal(first.items, fitted.act(asked(), 5, np.random.default_rng(4)).items)


def test_large_catalogues_take_the_other_way_to_the_same_values(fitted):
    policy, requests = as_set(fitted, pool=3), asked(40)
    clicks, lengths = policy._clicks(requests)
    pool = policy._pool(requests, clicks, lengths, 3)
    wide = np.concatenate([pool, np.tile(np.arange(40, dtype=np.int32), (40, 1))[:, 3:]], axis=1)
    found = [
        policy.model_.values(p, clicks, lengths, "gru", 4, torch.Generator().manual_seed(0), 0.0)[:, :, :3]
        for p in (pool, wide)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


# -- the contract -----------------------------------------------------------------------------------


def test_a_seed_fixes_a_fit_and_a_bundle_keeps_it(fitted, tmp_path):
    again = SlateThompson(**SMALL).fit(DATA)
    other = SlateThompson(**SMALL).fit(DATA, seed=1)
    fitted.save(tmp_path / "bundle")
    loaded = SlateThompson.load(tmp_path / "bundle")
    for name, array in fitted._state().items():
        np.testing.assert_array_equal(array, again._state()[name])
        np.testing.assert_array_equal(array, loaded._state()[name])
    assert not np.array_equal(fitted._state()["items.mean"], other._state()["items.mean"])
    one, two = (policy.act(asked(), 5, np.random.default_rng(1)) for policy in (fitted, loaded))
    np.testing.assert_array_equal(one.items, two.items)
    np.testing.assert_array_equal(one.propensities, two.propensities)
    np.testing.assert_array_equal(*(policy.propensities(asked(), one.items) for policy in (fitted, loaded)))


def test_resumes_to_the_bit(tmp_path):
    def begun(checkpoint, epochs):
        policy = SlateThompson(**{**SMALL, "dynamics": "linear", "epochs": epochs})
        policy.items_ = DATA.items
        policy._begin(DATA, Fitting(seed=4, data=DATA.fingerprint, checkpoint=checkpoint))
        return policy._state()

    begun(tmp_path, 3)
    whole, resumed = begun(None, 6), begun(tmp_path, 6)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name])


def test_refit_goes_on_from_what_was_learnt():
    policy = SlateThompson(**{**SMALL, "dynamics": "linear", "epochs": 20, "update_epochs": 2}).fit(DATA)
    before = policy._state()["items.mean"].copy()
    more = MARKET.log(3, part="more")
    first = policy.refit(DATA.derive({"step": "more"}, impressions=DATA.impressions)).record_.notes
    assert first["refits"] == 1 and first["round 1"]["epochs"] == 2
    moved = np.abs(policy._state()["items.mean"] - before).mean()
    assert 0 < moved < 0.5 * np.abs(before).mean()
    anew = SlateThompson(**{**SMALL, "dynamics": "linear", "epochs": 2}).fit(DATA)
    assert first["round 1"]["curve"][0][1] < anew.record_.notes["round 1"]["curve"][0][1]
    with pytest.raises(DataError, match="catalogue has changed"):
        policy.refit(replace(more, items=Entities(Vocabulary.range(7))))


def test_update_learns_nothing_and_says_so(fitted):
    requests = asked(10)
    slates = fitted.act(requests, 3, np.random.default_rng(0))
    before = {name: array.copy() for name, array in fitted._state().items()}
    fitted.update(requests, Feedback(slates, np.zeros((10, 3))))
    for name, array in before.items():
        np.testing.assert_array_equal(array, fitted._state()[name])
    with pytest.raises(DataError, match="rewards"):
        fitted.update(asked(9), Feedback(slates, np.zeros((10, 3))))


def test_bad_requests_are_refused(fitted):
    rng = np.random.default_rng(0)
    with pytest.raises(NotFittedError):
        SlateThompson().act(asked(), 3, rng)
    with pytest.raises(DataError, match="outside the catalogue"):
        fitted.act(Requests.of_histories([[40]]), 3, rng)
    with pytest.raises(DataError, match="candidates"):
        fitted.act(asked(2, candidates=Ragged.from_rows([[1], [99]])), 3, rng)
    with pytest.raises(DataError, match="at least 1"):
        fitted.act(asked(), 0, rng)
    with pytest.raises(DataError, match="twice"):
        fitted.propensities(asked(1), np.array([[3, 3]]))
    with pytest.raises(ConfigError, match="strategy"):
        SlateThompson(strategy="boltzmann")
