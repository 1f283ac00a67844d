"""UDITSR: exact answers of the trained graph, the loss row by row, search and feed, people by history, and refusals."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix
from torch.nn import functional

from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.search_events import asked
from palate.data.split import HeldOut, Split
from palate.errors import DataError
from palate.nn.dual_intent import OWN_WORDS, lists_of
from palate.nn.translation import readout, translate_reference
from palate.recommend.uditsr import UDITSR, _Trainer
from palate.retrieval.tokens import tokens
from palate.simulate.demands import Demands
from palate.training.samplers import Unseen
from palate.training.search_rows import RowBatch, RowEpoch, SearchRows

SMALL = {"dim": 8, "epochs": 3, "batch_size": 128, "lr": 0.01}
APP = Demands(users=60, items=40, events=12, topics=4, seed=1)
DATA = APP.dataset()
#: A search for each need.
NEEDS = [f"need{k}word0 need{k}word1 need{k}word2" for k in range(4)]


@pytest.fixture(scope="module")
def model():
    return UDITSR(**SMALL).fit(DATA)


@pytest.fixture(scope="module")
def learnt():
    """A model that has learnt the app."""
    return UDITSR(dim=16, epochs=40, batch_size=128, lr=0.01).fit(DATA)


def trainer_of(data=DATA, seed=0, **settings):
    c = UDITSR(**{**SMALL, **settings}).config
    rows, _ = SearchRows.of(data, tokens, longest=c.query_words, most=c.n_words, within=c.within)
    return _Trainer(rows, rows.lists(OWN_WORDS, c.item_words, leave_out=c.leave_out), c, np.random.default_rng(seed)), rows


def batch_of(rows, size=96, seed=0):
    return next(iter(RowEpoch.draw(rows, Unseen(DATA.matrix()), size, np.random.default_rng(seed))))


def every_item(model, asked_for):
    return model.score(asked_for, np.tile(np.arange(model.n_items, dtype=np.int32), (len(asked_for), 1)))


def people(n=10, texts=None):
    return replace(Requests.of_users(DATA, np.arange(n, dtype=np.int32)), texts=texts)


# -- the loss ---------------------------------------------------------------------------------------


def by_rows(trainer, batch):
    """Return the three terms of a batch, one row at a time, from the equations."""
    rows, net, c = trainer.rows, trainer.net, trainer.config
    mine, led = trainer.lists.people, trainer.lists.items

    def guess(user, item, own, words):
        person = net.people(trainer.people[user][None], Ragged.from_rows([own]))
        return net.guess(person, trainer.items[item][None], lists_of(Ragged.from_rows([words]), np.array([0]), net.n_words))[0]

    def query(row):
        bag = torch.tensor(rows.bags[row].toarray()[0])
        return bag @ net.words

    demands = torch.stack(
        [
            query(r) if r < rows.n_told else guess(u, i, mine[u], led[i])
            for r, (u, i) in enumerate(zip(rows.users, rows.items, strict=True))
        ]
    )
    whole = torch.cat([trainer.people, trainer.items])
    final = readout(translate_reference(whole, demands if c.translate else None, trainer.graph, c.layers))
    terms = torch.zeros(3)
    for r, j in zip(batch.rows.tolist(), batch.negatives.tolist(), strict=True):
        u, i = int(rows.users[r]), int(rows.items[r])
        e, had, other, told = final[u], final[rows.n_users + i], final[rows.n_users + j], r < rows.n_told
        instead = demands[r] if told else guess(u, j, mine[u], led[j])
        score = lambda item, q, told=told, e=e: net.score(e[None], item[None], q[None], search=told)[0]  # noqa: E731
        near, far = ((e + demands[r] - x).square().mean() for x in (had, other))
        terms[0] += functional.softplus(score(other, instead) - score(had, demands[r]))
        terms[2] += functional.softplus(near - far)
        if told:
            own = guess(u, i, trainer.lists.people_left[r], trainer.lists.items_left[r])
            terms[1] += (own - demands[r]).square().mean()
    return terms / len(batch)


@pytest.mark.parametrize("translate", [True, False])
def test_the_loss_is_that_of_the_equations(translate):
    trainer, rows = trainer_of(translate=translate, sg_weight=0.7, cl_weight=0.3)
    batch = batch_of(rows, 40)
    fit, taught, contrast = by_rows(trainer, batch)
    found, wanted = trainer.loss(batch, torch.Generator()), fit + 0.7 * taught + 0.3 * contrast
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    learnt = tuple(trainer.parameters())  # nothing is held: words learn from the distance of guesses, too
    for own, plain in zip(*(torch.autograd.grad(loss, learnt) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-3, atol=1e-5)


def test_a_batch_without_searches_teaches_no_guess():
    losses = []
    for weight in (0.0, 50.0):
        trainer, rows = trainer_of(sg_weight=weight)
        feed = batch_of(rows, 400)
        kept = feed.rows >= rows.n_told
        losses.append(trainer.loss(RowBatch(feed.rows[kept], feed.negatives[kept]), torch.Generator()).item())
    assert losses[0] == losses[1] and kept.any()


def test_rows_without_an_item_not_had_add_nothing():
    trainer, rows = trainer_of()
    batch = batch_of(rows, 50)
    none = RowBatch(batch.rows, np.full(50, -1, np.int32))
    loss = trainer.loss(none, torch.Generator())
    loss.backward()
    assert loss.item() == 0
    half = RowBatch(batch.rows, np.where(np.arange(50) < 25, batch.negatives, -1))
    first = RowBatch(batch.rows[:25], batch.negatives[:25])
    torch.testing.assert_close(trainer.loss(half, torch.Generator()), trainer.loss(first, torch.Generator()) / 2)


def guess_error(trainer, rows, told):
    """Return how far guesses of some told rows are from their queries, as a share of how far queries are from their mean."""
    wanted = rows.queries.times(trainer.net.words).detach()
    return trainer._taught(told, wanted[told], len(told)) / (wanted - wanted.mean(0)).square().mean()


def test_counting_a_query_among_its_own_words_teaches_to_copy_it():
    """Nobody and nothing was searched twice, and queries are drawn by lot, so there is nothing to be foretold.

    With lists that count the query to be guessed, as published, the error falls to nothing, on rows that taught nothing too;
    with the lists of an answer, which can't hold it, the same network is no better than the mean of all queries. Left out, it
    can't be copied, and training shows what answers will.
    """
    n, words = 240, 6
    bags = csr_matrix(np.eye(words)[np.random.default_rng(0).integers(0, words, n)])
    told = SearchRows(np.arange(n), np.arange(n), bags, np.arange(n), n, n)
    taught, other, errors = np.arange(n // 2), np.arange(n // 2, n), {}
    honest, copied = (told.lists(OWN_WORDS, 10, leave_out=left) for left in (True, False))
    for name, lists in (("honest", honest), ("copied", copied)):
        trainer = _Trainer(told, lists, UDITSR(**{**SMALL, "dim": 16}).config, np.random.default_rng(0))
        free = [p for part, p in trainer.named_parameters() if part.startswith(("net.key", "net.gate", "net.generator"))]
        optimizer = torch.optim.Adam(free, lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            guess_error(trainer, told, taught).backward()
            optimizer.step()
        errors[name] = guess_error(trainer, told, other).item()
        trainer.lists = honest
        errors[f"{name}, as answered"] = guess_error(trainer, told, other).item()
    assert errors["copied"] < 0.1 and errors["copied, as answered"] > 0.95
    assert errors["honest"] == errors["honest, as answered"] > 0.95


# -- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"translate": False}, {"layers": 3}])
def test_with_the_training_history_people_are_exactly_as_trained(settings):
    model, kept = UDITSR(**{**SMALL, **settings}), {}
    finish = model._finish
    model._finish = lambda trainer: (kept.update(trainer=trainer), finish(trainer))
    model.fit(DATA)
    trainer = kept["trainer"]
    with torch.no_grad():
        guesses, layers, _ = trainer.propagate()
        final = readout(layers).numpy()
    asking = model._people(Requests.of_users(DATA, np.arange(DATA.n_users, dtype=np.int32)))
    np.testing.assert_allclose(asking.final, final[: DATA.n_users], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(asking.people.keys.numpy(), guesses.keys.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.final_, final[DATA.n_users :], rtol=1e-6)
    del model._finish


def test_scores_are_those_of_the_two_networks(model):
    users, items = np.array([3, 5]), np.array([7, 0])
    asking = model._people(people(6))
    with torch.no_grad():
        guess = torch.from_numpy(model._guess(asking.people, users, items))
        vectors = torch.from_numpy(asking.final[users]), torch.from_numpy(model.final_[items])
        feed = model.net_.score(*vectors, guess, search=False).numpy()
        bag = torch.from_numpy(model.words_.bags([tokens(NEEDS[2])] * 2).toarray())
        search = model.net_.score(*vectors, bag @ model.net_.words, search=True).numpy()
    rows = people(6).take(users)
    np.testing.assert_allclose(model.score(rows, items[:, None])[:, 0], feed, rtol=1e-4, atol=1e-5)
    told = replace(rows, texts=[NEEDS[2]] * 2)
    np.testing.assert_allclose(model.score(told, items[:, None])[:, 0], search, rtol=1e-4, atol=1e-5)


def test_a_query_without_a_known_word_is_none(model):
    plain = every_item(model, people())
    for texts in ([""] * 10, ["unheard of"] * 10, ["?!"] * 10, [None] * 10):
        np.testing.assert_array_equal(every_item(model, people(texts=texts)), plain)
    mixed = every_item(model, people(texts=["", *NEEDS, "?", *NEEDS]))
    np.testing.assert_allclose(mixed[[0, 5]], plain[[0, 5]], rtol=1e-5, atol=1e-6)
    assert (np.abs(mixed - plain).max(1)[[1, 2, 3, 4, 6, 7, 8, 9]] > 1e-3).all()


def test_searches_that_led_to_no_interaction_change_nothing(model):
    """Queries that belong to no row of training, such as those of held-out answers, are not read."""
    late = int(DATA.interactions.time.max()) + 10**6
    extra = pa.table({"user": [1, 2], "time": [late] * 2, "query": ["secret", NEEDS[0]], "items": [[0], [1]]})
    more = DATA.derive({}, searches=pa.concat_tables([DATA.searches, extra.cast(DATA.searches.schema)]))
    for name, array in UDITSR(**SMALL).fit(more)._state().items():
        np.testing.assert_array_equal(array, model._state()[name])


def test_search_finds_needs_and_the_feed_finds_people(learnt):
    """The query decides the need of what is found, for anybody; without one, the person's own needs come first."""
    need = APP.need_of_item
    for texts in zip(*[iter(NEEDS)], strict=True):
        wanted = NEEDS.index(texts[0])
        for users in (np.arange(40, dtype=np.int32), np.full(40, -1, np.int32)):
            told = replace(people(40, list(texts) * 40), users=users, exclude=None)
            assert (need[learnt.recommend(told, 5).items] == wanted).mean() > 0.5
    feed = every_item(learnt, people(60))
    needs = APP.events["need"].reshape(60, -1)
    usual = np.array([np.bincount(row, minlength=4).argmax() for row in needs])
    own = [row[need == k].mean() - row[need != k].mean() for row, k in zip(feed, usual, strict=True)]
    assert np.mean(np.array(own) > 0) > 0.85


def test_people_of_whom_nothing_is_known(learnt):
    nobody = Requests(np.full(4, -1, np.int32), Histories.empty(4))
    assert learnt.recommend(nobody, 3).cold.all()
    told = replace(nobody, texts=NEEDS)
    ranking = learnt.recommend(told, 3)
    assert not ranking.cold.any()
    assert (APP.need_of_item[ranking.items] == np.arange(4)[:, None]).mean() > 0.5
    assert learnt.recommend(replace(nobody, texts=["", NEEDS[0], "?", ""]), 3).cold.tolist() == [True, False, True, True]


def test_candidates_are_scored_and_nothing_else_is(model, monkeypatch):
    asked_for = replace(people(4, ["", *NEEDS[:3]]), exclude=None)
    whole = every_item(model, asked_for)
    seen = []
    pairs = model._pairs
    monkeypatch.setattr(model, "_pairs", lambda asking, rows, items: seen.append(len(rows)) or pairs(asking, rows, items))
    ranking = model.recommend(replace(asked_for, candidates=Ragged.from_rows([[1, 2, 3], [5], [], [0, 39]])), 3)
    assert seen == [6]
    assert [sorted(i for i in row if i >= 0) for row in ranking.items.tolist()] == [[1, 2, 3], [5], [], [0, 39]]
    rows, places = np.nonzero(ranking.items >= 0)
    items = ranking.items[rows, places]
    np.testing.assert_allclose(ranking.scores[rows, places], whole[rows, items], rtol=1e-4, atol=1e-5)


def test_small_blocks_change_nothing(model, monkeypatch):
    asked_for = people(10, ["", *NEEDS, "?", *NEEDS])
    whole, scores = model.recommend(asked_for, 5), every_item(model, asked_for)
    monkeypatch.setattr("palate.recommend.uditsr.PAIRS", 7)
    np.testing.assert_allclose(every_item(model, asked_for), scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.recommend(asked_for, 5).scores, whole.scores, rtol=1e-4, atol=1e-5)


def test_reasons_are_of_the_question_asked(model):
    for texts in (None, [NEEDS[1]]):
        one = replace(people(1), texts=texts)
        why = model.explain(one, 4)
        assert why.score == pytest.approx(float(model.score(one, np.array([[4]], np.int32))[0, 0]), rel=1e-4)
        left = why.evidence[0].subject
        fewer = replace(one, histories=Histories.from_rows([one.histories.items[one.histories.items != left]]))
        without = float(model.score(fewer, np.array([[4]], np.int32))[0, 0])
        assert why.evidence[0].weight == pytest.approx(why.score - without, rel=1e-3, abs=1e-5)
        assert {e.subject for e in why.evidence} == set(one.histories.items.tolist()) and not why.exact


def test_forgotten_people_leave_no_words_behind(model, tmp_path):
    again = UDITSR.load(model.save(tmp_path / "bundle"))
    before = every_item(again, people(6))[5]
    assert again.forget([0, 4]) == 2
    assert again.own_words_[0].tolist() == again.own_words_[4].tolist() == [] and not again.own_[[0, 4]].any()
    assert again.told_.offsets[0] == again.told_.offsets[1] and again.told_.offsets[4] == again.told_.offsets[5]
    np.testing.assert_array_equal(every_item(again, people(6))[5], before)


def test_recommendation_alone_is_refused_unless_asked_for(learnt):
    alone = DATA.derive({}, searches=None)
    with pytest.raises(DataError, match="no interaction of the data set was found through a search") as told:
        UDITSR(**SMALL).fit(alone)
    assert "require_searches=False" in str(told.value)
    with pytest.raises(DataError, match="found through a search"):
        UDITSR(**SMALL, within=1).fit(DATA)  # searches are half a minute older than what they led to
    model = UDITSR(**SMALL, require_searches=False).fit(alone)
    np.testing.assert_array_equal(every_item(model, people(4, NEEDS)), every_item(model, people(4)))
    assert model.record_.notes["interactions by search"] == 0 == len(model.words_)


def halves():
    e = DATA.interactions
    last = np.append(e.user[1:] != e.user[:-1], True)
    train = DATA.derive({"step": "train"}, interactions=e.take(~last))
    return train, Split(train, e.take(last), None, {"protocol": "by hand"}).held_out("valid")


def test_early_stopping_asks_with_queries_where_there_were_any():
    train, held_out = halves()
    model = UDITSR(**SMALL, patience=1).fit(train, held_out)
    parts = asked(train, held_out)
    assert len(parts.search) + len(parts.recommendation) == 60 and len(parts.search) > 15
    values = []
    for part, texts in ((parts.recommendation, None), (parts.search, parts.texts)):
        lists = model.recommend(replace(Requests.of_held_out(part), texts=texts), 10).items
        at = np.argmax(lists == part.truth.values[:, None], axis=1)
        hit = (lists == part.truth.values[:, None]).any(axis=1)
        values += np.where(hit, 1 / np.log2(at + 2), 0).tolist()
    assert model.record_.notes["best_value"] == pytest.approx(np.mean(values), rel=1e-6)
    nobody = HeldOut(np.empty(0, np.int32), Histories.empty(0), Ragged.empty(0))
    assert UDITSR(**SMALL).fit(train, nobody).record_.notes["best_value"] is None


def test_a_fit_that_was_killed_goes_on_to_the_bit(model, tmp_path):
    UDITSR(**{**SMALL, "epochs": 1}).fit(DATA, checkpoint=tmp_path)
    resumed = UDITSR(**SMALL).fit(DATA, checkpoint=tmp_path)
    for name, array in model._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
