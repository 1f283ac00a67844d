"""Checks of the answers of a fitted recommender (see :mod:`palate.contracts.conformance`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from palate.contracts.conformance_bench import Bench, K, check, expect, raises, same_ranking, well_formed
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import DataError, UnsupportedError


@check
def answers_are_well_formed(bench: Bench) -> None:
    """Types, shapes, descending scores, no item twice."""
    well_formed(bench.model.recommend(bench.requests, K), len(bench.requests), K, bench.n_items)


@check
def no_questions_no_answers(bench: Bench) -> None:
    """An empty batch has an empty answer."""
    well_formed(bench.model.recommend(bench.requests.take(np.arange(0)), K), 0, K, bench.n_items)


@check
def batch_equals_one_by_one(bench: Bench) -> None:
    """The company in which a question is asked doesn't matter."""
    together = bench.model.recommend(bench.requests, K)
    for row in range(len(bench.requests)):
        alone = bench.model.recommend(bench.requests.take(np.array([row])), K)
        same_ranking(together, np.array([row]), alone, f"request {row} is answered otherwise alone than in a batch")


@check
def unseen_users_are_served(bench: Bench) -> None:
    """A person unknown in training, with a history, gets an answer of the model's own."""
    asked = replace(bench.requests, users=np.full(len(bench.requests), -1, np.int32))
    ranking = bench.model.recommend(asked, K)
    well_formed(ranking, len(asked), K, bench.n_items)
    expect(not ranking.cold[asked.histories.lengths > 0].any(), "a person with a history is treated as cold")


@check
def unknown_ids_are_served(bench: Bench) -> None:
    """Raw ids that training never saw are an ordinary case; numbers outside the catalogue are an error."""
    model = bench.model
    strangers = model.requests(["nobody of that name"])
    expect(len(strangers.histories.items) == 0, "an unknown user has a history")
    well_formed(model.recommend(strangers, K), 1, K, bench.n_items)
    known = bench.dataset.items.ids.raw[0].as_py()
    mixed = model.requests(histories=[["no such item", known]])
    expect(mixed.histories.items.tolist() == [0], "unknown items are not left out of a history")
    well_formed(model.recommend(mixed, K), 1, K, bench.n_items)
    for number in (bench.n_items, -1):
        beyond = Requests.of_histories([[number]], exclude_seen=False)
        expect(raises(DataError, lambda asked=beyond: model.recommend(asked, K)), f"item number {number} is accepted")  # type: ignore[misc]
        rows = Ragged.from_rows([[number]] * len(bench.requests))
        for wrong in (replace(bench.requests, exclude=rows), replace(bench.requests, candidates=rows)):
            refused = raises(DataError, lambda asked=wrong: model.recommend(asked, K))  # type: ignore[misc]
            expect(refused, f"item number {number} is accepted to exclude, or as a candidate")


@check
def empty_history_is_served(bench: Bench) -> None:
    """Somebody of whom nothing is known gets a full list, and the answer says if it was training popularity."""
    nobody = Requests(np.full(2, -1, np.int32), Histories.empty(2))
    ranking = bench.model.recommend(nobody, K)
    well_formed(ranking, 2, K, bench.n_items)
    expect(bool((ranking.items >= 0).all()), "a person without a history gets less than a full list")
    if ranking.cold.all():
        counts = bench.dataset.item_counts[ranking.items]
        expect(bool((np.diff(counts, axis=1) <= 0).all()), "a cold answer isn't in the order of training popularity")
    mixed = Requests(np.full(2, -1, np.int32), Histories.from_rows([[], [0, 1]]))
    both = bench.model.recommend(mixed, K)
    same_ranking(both, np.array([0]), bench.model.recommend(nobody.take(np.array([0])), K), "cold and warm people mix badly")


@check
def words_are_read_or_refused(bench: Bench) -> None:
    """Who reads words answers them one by one as in company; who doesn't says so, and passes over those of a request."""
    model, asked = bench.model, bench.requests
    said = [f"quiet item number {at}" for at in range(len(asked))]
    worded = replace(asked, texts=said)
    ranking = model.recommend(worded, K)
    expect(raises(DataError, lambda: model.recommend(replace(asked, texts=said[1:]), K)), "a text too few is accepted")
    if not model.reads_words:
        expect(raises(UnsupportedError, lambda: model.requests(texts=said)), "words are accepted, but not read")
        same_ranking(ranking, np.arange(len(asked)), model.recommend(asked, K), "words that aren't read change the answer")
        return
    alone = model.requests(texts=said)
    expect(list(alone.texts or ()) == said and not len(alone.histories.items), "words alone are no request of strangers")
    well_formed(model.recommend(alone, K), len(said), K, bench.n_items)
    for row in range(len(asked)):
        one = model.recommend(worded.take(np.array([row])), K)
        same_ranking(ranking, np.array([row]), one, "words of others change an answer")
    silent = model.recommend(replace(asked, texts=[""] * len(asked)), K)
    same_ranking(silent, np.arange(len(asked)), model.recommend(asked, K), "saying nothing changes an answer")


@check
def ties_are_read_or_refused(bench: Bench) -> None:
    """Who reads ties answers strangers by the people named; who doesn't says so, and passes over those of a request."""
    model, asked, rows = bench.model, bench.requests, np.arange(len(bench.requests))
    people = bench.dataset.users.ids
    friends = Ragged.from_rows([asked.users[[at - 1, at - 2]] for at in rows])
    tied = replace(asked, ties=friends)
    ranking = model.recommend(tied, K)
    expect(
        raises(DataError, lambda: model.recommend(replace(asked, ties=friends.take(rows[1:])), K)), "a row too few is accepted"
    )
    nobody = Ragged.from_rows([[len(people)] for _ in rows])
    expect(raises(DataError, lambda: model.recommend(replace(asked, ties=nobody), K)), "ties to nobody known are accepted")
    named = [people.decode(friends[at]).to_pylist() for at in rows.tolist()]
    if not model.reads_ties:
        expect(raises(UnsupportedError, lambda: model.requests(histories=[[]] * len(named), ties=named)), "ties are not read")
        same_ranking(ranking, rows, model.recommend(asked, K), "ties that aren't read change the answer")
        return
    strangers = model.requests(histories=[[]] * len(named), ties=named)
    found = model.recommend(strangers, K)
    well_formed(found, len(rows), K, bench.n_items)
    expect(not found.cold.any(), "people known by their ties alone are answered as if nothing were known")
    for row in rows:
        one = model.recommend(tied.take(rows[[row]]), K)
        same_ranking(ranking, rows[[row]], one, "ties of others change an answer")


@check
def repeated_items_are_served(bench: Bench) -> None:
    """A history may hold an item many times."""
    asked = Requests.of_histories([[1, 1, 1, 2, 1], [3] * 40], exclude_seen=True)
    ranking = bench.model.recommend(asked, bench.n_items)
    well_formed(ranking, 2, bench.n_items, bench.n_items)
    expect(not np.isin(ranking.items[0], [1, 2]).any(), "a repeated item of the history is offered again")


@check
def exclude_is_obeyed(bench: Bench) -> None:
    """Excluded items are never offered; all others can be."""
    everything = bench.model.recommend(replace(bench.requests, exclude=None), bench.n_items)
    banned = Ragged.from_rows([row[:3] for row in everything.items])
    ranking = bench.model.recommend(replace(bench.requests, exclude=banned), bench.n_items)
    for row in range(len(ranking)):
        offered = ranking.items[row]
        expect(not np.isin(offered, banned[row]).any(), f"request {row} is offered an excluded item")
        missing = set(everything.items[row].tolist()) - set(offered.tolist()) - set(banned[row].tolist())
        expect(not missing, f"request {row} lacks items {sorted(missing)[:3]}, which nobody excluded")


@check
def candidates_are_obeyed(bench: Bench) -> None:
    """Only candidates are offered, in the order of the whole list, without those excluded."""
    n = len(bench.requests)
    chosen = Ragged.from_rows([[0, 2, 4, 6, 8]] * n)
    asked = replace(bench.requests, candidates=chosen, exclude=Ragged.from_rows([[4]] * n))
    ranking = bench.model.recommend(asked, K)
    well_formed(ranking, n, K, bench.n_items)
    for row in range(n):
        offered = ranking.items[row][ranking.items[row] >= 0].tolist()
        expect(sorted(offered) == [0, 2, 6, 8], f"request {row} may have 0, 2, 6, 8 and is offered {offered}")
    whole = bench.model.score(bench.requests, np.maximum(ranking.items, 0))
    listed = ranking.items >= 0
    close = np.allclose(whole[listed], ranking.scores[listed], rtol=1e-4, atol=1e-5)
    expect(close, "candidates are scored otherwise")


@check
def k_may_exceed_the_catalogue(bench: Bench) -> None:
    """More ranks than items: every item once, then -1."""
    k = bench.n_items + 5
    ranking = bench.model.recommend(replace(bench.requests, exclude=None), k)
    well_formed(ranking, len(bench.requests), k, bench.n_items)
    expect(bool((ranking.items[:, bench.n_items :] == -1).all()), "ranks beyond the catalogue are not -1")
    expect(bool((ranking.items[:, : bench.n_items] >= 0).all()), "items are missing when the whole catalogue is asked for")
    expect(raises(DataError, lambda: bench.model.recommend(bench.requests, 0)), "k = 0 is accepted")


@check
def score_agrees_with_recommend(bench: Bench) -> None:
    """The scores of a list are those that ``score`` gives; -1 scores ``-inf``."""
    ranking = bench.model.recommend(bench.requests, K)
    items = ranking.items.copy()
    items[:, -1] = -1
    scores = bench.model.score(bench.requests, items)
    expect(scores.dtype == np.float32 and scores.shape == items.shape, "score gives another type or shape than float32[n, m]")
    expect(bool(np.isneginf(scores[:, -1]).all()), "the score of item -1 isn't -inf")
    close = np.allclose(scores[:, :-1], ranking.scores[:, :-1], rtol=1e-4, atol=1e-5)
    expect(close, "score and recommend disagree")


@check
def similar_works_or_refuses(bench: Bench) -> None:
    """Similar items leave the item itself out, or the model says that it has no such notion."""
    asked = np.array([0, 3, 5], np.int32)
    try:
        ranking = bench.model.similar(asked, K)
    except UnsupportedError as refusal:
        expect(bool(refusal.what), "the refusal says nothing")
        return
    well_formed(ranking, 3, K, bench.n_items)
    expect(not (ranking.items == asked[:, None]).any(), "an item is called similar to itself")


@check
def explanations_add_up(bench: Bench) -> None:
    """An exact explanation sums to the score; another says how it was made; a model that can't explain refuses."""
    for row in range(4):
        one = bench.requests.take(np.array([row]))
        item = int(bench.model.recommend(one, 1).items[0, 0])
        try:
            found = bench.model.explain(one, item)
        except UnsupportedError as refusal:
            expect(bool(refusal.what), "the refusal says nothing")
            return
        score = float(bench.model.score(one, np.array([[item]], np.int32))[0, 0])
        expect(found.item == item and bool(found.method), "an explanation is of another item, or doesn't say its method")
        expect(
            bool(np.isclose(found.score, score, rtol=1e-3, atol=1e-4)), f"it explains {found.score:g}; the score is {score:g}"
        )
        total = sum(reason.weight for reason in found.evidence) + found.rest
        if found.exact:
            fits = np.isclose(total, found.score, rtol=1e-3, atol=1e-4)
            expect(bool(fits), f"exact reasons add up to {total:g}, not to {found.score:g}")
        subjects = [reason.subject for reason in found.evidence if reason.kind == "history"]
        expect(set(subjects) <= set(one.histories.items.tolist()), "a reason names an item that isn't in the history")
