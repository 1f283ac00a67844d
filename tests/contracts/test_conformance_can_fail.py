"""Models that break one promise each: the conformance suite finds every one out."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.contracts.config import Config
from palate.contracts.conformance import CHECKS, NonConformingError, check_recommender
from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Fitting
from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.recommend.ease import EASE
from palate.runtime import threads


class Good(EASE):
    """Keeps every promise; the others differ from it in one place."""

    name = "good"


class StoresMore(Good):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.cache = np.zeros(3)


class LooseSettings(Config):
    model_config = Config.model_config | {"extra": "ignore"}
    reg: float = 250.0
    precision: str = "float32"

    @classmethod
    def parse(cls, settings, *, system=""):
        return cls.model_validate(dict(settings))


class AcceptsAnything(Good):
    Settings = LooseSettings  # type: ignore[assignment]


class AnswersUnfitted(Good):
    def _check_fitted(self) -> None:
        self.items_ = getattr(self, "items_", None) or self.items_


class ReturnsNothing(Good):
    def fit(self, *args: Any, **settings: Any) -> Any:
        super().fit(*args, **settings)


class OfWrongType(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        ranking = super().recommend(requests, k)
        return replace(ranking, items=ranking.items.astype(np.int64))


class OffersTwice(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        ranking = super().recommend(requests, k)
        ranking.items[:, 1:2] = ranking.items[:, 0:1]
        return ranking


class WorstFirst(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        ranking = super().recommend(requests, k)
        return replace(ranking, items=ranking.items[:, ::-1].copy(), scores=ranking.scores[:, ::-1].copy())


class FailsOnNobody(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        if len(requests) == 0:
            return Ranking(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, bool))
        return super().recommend(requests, k)


class ScalesByBatch(Good):
    def _scores(self, requests: Requests) -> np.ndarray:
        return super()._scores(requests) * np.float32(len(requests))


class KnowsUsersOnly(Good):
    def _informed(self, requests: Requests) -> np.ndarray:
        return requests.users >= 0


class TakesStrangersForTheFirst(Good):
    def requests(self, users: Any = None, **settings: Any) -> Requests:
        asked = super().requests(users, **settings)
        return asked if users is None else replace(asked, histories=self.histories_.take(np.maximum(asked.users, 0)))


class TakesAnyNumber(Good):
    def _check_request(self, requests: Requests, k: int) -> None:
        self._check_fitted()
        if k < 1:
            raise DataError("k")

    def _scores(self, requests: Requests) -> np.ndarray:
        items = np.clip(requests.histories.items, 0, self.n_items - 1)
        return super()._scores(replace(requests, histories=replace(requests.histories, items=items)))


class SilentToTheCold(Good):
    def _popularity_scores(self, n: int) -> np.ndarray:
        return np.full((n, self.n_items), -np.inf, np.float32)


class UnpopularToTheCold(Good):
    def _popularity_scores(self, n: int) -> np.ndarray:
        return -super()._popularity_scores(n)


class ReadsInSecret(Good):
    def _scores(self, requests: Requests) -> np.ndarray:
        said = np.zeros(len(requests)) if requests.texts is None else np.array([len(text) for text in requests.texts])
        return super()._scores(requests) + said[:, None].astype(np.float32)


class TakesWordsItPassesOver(Good):
    def check_words(self) -> None:
        pass


class ReadsWordsOfOthers(Good):
    reads_words = True

    def _scores(self, requests: Requests) -> np.ndarray:
        said = sum(len(text) for text in requests.texts or ())
        return super()._scores(requests) + np.float32(said)


class FollowsTiesInSecret(Good):
    def _scores(self, requests: Requests) -> np.ndarray:
        tied = np.zeros(len(requests)) if requests.ties is None else requests.ties.lengths
        return super()._scores(requests) * (1 - tied[:, None].astype(np.float32))


class TakesTiesItPassesOver(Good):
    def ties_of(self, people: Any) -> Any:
        return None


class HearsOfTiesOnly(Good):
    """Reads ties, as it says, but answers nobody by them."""

    reads_ties = True


class ForgetsRepeats(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        rows = [
            np.array([i for i in row if (row == i).sum() == 1], np.int32)
            for row in map(requests.histories.ragged.__getitem__, range(len(requests)))
        ]
        exclude = None if requests.exclude is None else type(requests.exclude).from_rows(rows)
        return super().recommend(replace(requests, exclude=exclude), k)


class NeedsTwoItems(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        if dataset.n_items < 2:
            raise ValueError("too few items")
        super()._fit(dataset, fitting)


class SavesLess(Good):
    def _state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights_.astype(np.float16)}

    def _restore(self, state: Any) -> None:
        self.weights_ = state["weights"].astype(np.float32)


class ReadsPickle(Good):
    def _restore(self, state: Any) -> None:
        self.weights_ = pickle.loads(pickle.dumps(state["weights"]))


class SavesAPickle(Good):
    def save(self, folder: Any, **settings: Any) -> Any:
        place = super().save(folder, **settings)
        (place / "model.pkl").write_bytes(pickle.dumps(self.weights_))
        return place


class FitsByChance(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        self.weights_ += np.random.default_rng().normal(size=self.weights_.shape).astype(np.float32)


class CountsThreads(Good):
    def _scores(self, requests: Requests) -> np.ndarray:
        return super()._scores(requests) * np.float32(threads())


class FitsByThreads(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        self.weights_ *= threads()


class IgnoresExclude(Good):
    def _rank_block(self, requests: Requests, k: int, *, cold: bool) -> Any:
        return super()._rank_block(replace(requests, exclude=None), k, cold=cold)


class ExcludesTooMuch(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        if requests.exclude is None:
            return super().recommend(requests, k)
        wider = type(requests.exclude).from_rows([[*row, 9] for row in requests.exclude.tolist()])
        return super().recommend(replace(requests, exclude=wider), k)


class IgnoresCandidates(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        return super().recommend(replace(requests, candidates=None), k)


class ScoresCandidatesOtherwise(Good):
    def _rank_candidates(self, requests: Requests, k: int) -> Any:
        items, scores = super()._rank_candidates(requests, k)
        return items, scores * 2


class WrapsAround(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        return super().recommend(requests, min(k, self.n_items))


class AnswersNone(Good):
    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        ranking = super().recommend(requests, max(k, 1))
        return Ranking(ranking.items[:, :k], ranking.scores[:, :k], ranking.cold)


class ScoresOtherwise(Good):
    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        return super().score(requests, items) + np.float32(1)


class ScoresPadding(Good):
    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        return np.nan_to_num(super().score(requests, items), neginf=0.0)


class LikesItself(Good):
    def similar(self, items: np.ndarray, k: int = 10) -> Ranking:
        ranking = super().similar(items, k)
        ranking.items[:, -1] = items
        return ranking


class AddsUpToLess(Good):
    def explain(self, request: Requests, item: int) -> Explanation:
        found = super().explain(request, item)
        return replace(found, evidence=found.evidence[:1], rest=0.0)


class ExplainsAnotherScore(Good):
    def explain(self, request: Requests, item: int) -> Explanation:
        return replace(super().explain(request, item), score=9.0, exact=False)


class NamesStrangeReasons(Good):
    def explain(self, request: Requests, item: int) -> Explanation:
        found = super().explain(request, item)
        return replace(found, evidence=(*found.evidence, Evidence("history", item, 0.0)))


class DrawsGlobally(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        np.random.random()  # noqa: NPY002
        super()._fit(dataset, fitting)


class WritesIntoRequests(Good):
    def _scores(self, requests: Requests) -> np.ndarray:
        requests.users[:] = -1
        return super()._scores(requests)


class SaysNothing(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, replace(fitting, progress=lambda event: None))


class DoesTooMuch(Good):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        fitting.report("more", 3, 2)


class ForgetsHalf(Good):
    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "own": self.own_}

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        self.own_ = np.ones((dataset.n_users, 2), np.float32)


class ForgetsNothing(Good):
    def forget(self, users: Any) -> int:
        return len(set(users) & set(self.users_.ids.raw.to_pylist()))


class Updating(Good):
    """Can learn on, by fitting anew; the others break an update in one place."""

    can_update = True


class SaysNothingOfUpdates(Good):
    def update(self, dataset: Dataset, **settings: Any) -> Any:
        return self


class KeepsOldPeople(Updating):
    def update(self, dataset: Dataset, **settings: Any) -> Any:
        users, histories = self.users_, self.histories_
        super().update(dataset, **settings)
        self.users_, self.histories_ = users, histories
        return self


class TakesAnyOrder(Updating):
    def update(self, dataset: Dataset, **settings: Any) -> Any:
        self._check_fitted()
        return self.fit(dataset, seed=settings.get("seed", 0))


class UpdatesByChance(Updating):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        if fitting.former is not None:
            self.weights_ += np.random.default_rng().normal(size=self.weights_.shape).astype(np.float32)


class UnlearnsOnUpdate(Updating):
    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        super()._fit(dataset, fitting)
        if fitting.former is not None:
            self.weights_ = -self.weights_


BROKEN: dict[type[Recommender], str] = {
    StoresMore: "constructor stores only",
    AcceptsAnything: "unknown setting is refused",
    AnswersUnfitted: "unfitted is refused",
    ReturnsNothing: "fit returns self",
    OfWrongType: "answers are well formed",
    OffersTwice: "answers are well formed",
    WorstFirst: "answers are well formed",
    FailsOnNobody: "no questions no answers",
    ScalesByBatch: "batch equals one by one",
    KnowsUsersOnly: "unseen users are served",
    TakesStrangersForTheFirst: "unknown ids are served",
    TakesAnyNumber: "unknown ids are served",
    SilentToTheCold: "empty history is served",
    UnpopularToTheCold: "empty history is served",
    ReadsInSecret: "words are read or refused",
    TakesWordsItPassesOver: "words are read or refused",
    ReadsWordsOfOthers: "words are read or refused",
    FollowsTiesInSecret: "ties are read or refused",
    TakesTiesItPassesOver: "ties are read or refused",
    HearsOfTiesOnly: "ties are read or refused",
    ForgetsRepeats: "repeated items are served",
    NeedsTwoItems: "one item catalogue",
    SavesLess: "saved and loaded bit equal",
    ReadsPickle: "saved and loaded bit equal",
    SavesAPickle: "saved and loaded bit equal",
    ForgetsHalf: "forgotten people leave nothing",
    ForgetsNothing: "forgotten people leave nothing",
    FitsByChance: "seed is repeatable",
    CountsThreads: "threads are respected",
    FitsByThreads: "threads are respected",
    IgnoresExclude: "exclude is obeyed",
    ExcludesTooMuch: "exclude is obeyed",
    IgnoresCandidates: "candidates are obeyed",
    ScoresCandidatesOtherwise: "candidates are obeyed",
    WrapsAround: "k may exceed the catalogue",
    AnswersNone: "k may exceed the catalogue",
    ScoresOtherwise: "score agrees with recommend",
    ScoresPadding: "score agrees with recommend",
    LikesItself: "similar works or refuses",
    AddsUpToLess: "explanations add up",
    ExplainsAnotherScore: "explanations add up",
    NamesStrangeReasons: "explanations add up",
    DrawsGlobally: "global randomness is left alone",
    WritesIntoRequests: "data are left alone",
    SaysNothing: "progress is reported",
    DoesTooMuch: "progress is reported",
    SaysNothingOfUpdates: "update works or refuses",
    KeepsOldPeople: "update works or refuses",
    TakesAnyOrder: "update works or refuses",
    UpdatesByChance: "update is repeatable and saved",
    UnlearnsOnUpdate: "updated is nearly as good as fitted",
}


@pytest.mark.parametrize("check", list(CHECKS))
def test_a_good_model_passes(check: str) -> None:
    dict(check_recommender(Good))[check]()
    if "update" in check:
        dict(check_recommender(Updating))[check]()


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_model_is_found_out(kind: type[Recommender]) -> None:
    check = dict(check_recommender(kind))[BROKEN[kind]]
    with pytest.raises((NonConformingError, ValueError)):
        check()


def test_every_check_can_fail() -> None:
    assert set(BROKEN.values()) == set(CHECKS)


def test_other_data_may_be_given(tiny_dataset: Dataset) -> None:
    with pytest.raises(DataError, match="ten items"):
        dict(check_recommender(Good, dataset=tiny_dataset))
    user, item = np.divmod(np.arange(300), 15)
    larger = Dataset.from_columns(user, (item * 7 + user) % 30)
    dict(check_recommender(Good, dataset=larger))["batch equals one by one"]()
