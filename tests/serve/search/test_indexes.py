"""The approximate index behind a served model: recall, exact scores, and nothing that is barred, deleted or out of stock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.retrieval.ann import AnnIndex
from palate.retrieval.exact import ExactIndex
from palate.serve.models.loaded import Loaded
from palate.serve.models.production import list_models
from palate.serve.models.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import RetrievalSettings, ServiceSettings
from palate.serve.store import Event, ItemRow, Store

pytest.importorskip("faiss")

NOW, ITEMS, TASTES, PEOPLE = 1_700_000_000.0, 3_000, 60, 500
NOBODY = np.empty(0, np.int32)


def fill(store: Store) -> None:
    """Items of many tastes; each person chooses from one, and a little from all."""
    rng = np.random.default_rng(0)
    store.put_items([ItemRow(f"i{n}") for n in range(ITEMS)])
    own = TASTES * rng.integers(ITEMS // TASTES, size=(PEOPLE, 24)) + np.arange(PEOPLE)[:, None] % TASTES
    chosen = np.hstack([own, rng.integers(ITEMS, size=(PEOPLE, 4))])
    store.add_events([Event(f"u{p}", f"i{i}", time=NOW + n) for p, row in enumerate(chosen) for n, i in enumerate(row)])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("ann")
    settings = ServiceSettings().replace(retrieval={"index": "ann", "recall": 0.98})
    with Store.open(f"sqlite:///{folder / 'palate.db'}", clock=lambda: NOW) as store:
        fill(store)
        retrain(store, folder / "models", "ials", {"dim": 24, "epochs": 6})
        made = Service(store, settings, folder / "models", clock=lambda: NOW, seed=0)
        yield made
        made.close()


@pytest.fixture(scope="module")
def exact(service: Service) -> Loaded:
    active = service.shelf.active
    assert active is not None
    return Loaded(active.version, active.folder, service.catalogue)


def test_the_settings_decide(service: Service, exact: Loaded) -> None:
    active = service.shelf.active
    assert active is not None and isinstance(active.index, AnnIndex) and isinstance(exact.index, ExactIndex)
    assert exact.index_words == "exact" and active.index_words is not None and active.index_words.startswith("ann, recall")
    assert active.index.facts["queries"] == "given"
    assert list_models(service).models[0].index == active.index_words
    service.shelf.reload(active.version)
    assert service.shelf.active is not active and isinstance(service.shelf.active.index, AnnIndex)
    for wrong in ({"index": "hnsw"}, {"recall": 1.5}):
        with pytest.raises(ConfigError):
            RetrievalSettings.parse(wrong)


def test_recall_is_high_and_scores_are_exact(service: Service, exact: Loaded) -> None:
    active, hits, asked = service.shelf.active, 0, 0
    assert active is not None
    for user in range(0, PEOPLE, 5):
        person = service.person(f"u{user}")
        found, truth = (m.best(person, 30, person.seen) for m in (active, exact))
        assert not set(found[0].tolist()) & set(person.seen.tolist()) and not found[2]
        score = dict(zip(truth[0].tolist(), truth[1].tolist(), strict=True))
        assert all(score.get(row, value) == value for row, value in zip(found[0].tolist(), found[1].tolist(), strict=True))
        hits, asked = hits + len(set(found[0].tolist()) & set(score)), asked + len(score)
    assert asked == 30 * 100 and hits / asked >= 0.96


def test_deleted_banned_and_sold_out_items_never_come(service: Service, exact: Loaded) -> None:
    active, store = service.shelf.active, service.store
    assert active is not None
    person = service.person("u1")
    best = active.best(person, 40, NOBODY)[0].tolist()
    ids = [service.catalogue.items[row].id for row in best]
    deleted, sold_out, banned = ids[:10], ids[10:20], np.sort(np.array(best[20:30], np.int32))
    store.delete_items(deleted)
    store.put_items([replace(store.item(item), available=False) for item in sold_out])
    service.stale()
    service.pulse()
    found = active.best(person, 10, banned)
    assert len(found[0]) == 10 and not set(found[0].tolist()) & set(best[:30])
    assert len(set(found[0].tolist()) & set(exact.best(person, 10, banned)[0].tolist())) >= 8
    assert not set(best[:20]) & set(active.alike(np.array([best[35]]), 20)[0].tolist())


def test_with_little_left_the_answer_is_the_exact_one(service: Service, exact: Loaded) -> None:
    active, person = service.shelf.active, service.person("u2")
    assert active is not None
    few = np.arange(40, dtype=np.int32)
    barred = np.arange(40, ITEMS, dtype=np.int32)
    found, truth = (m.best(person, 60, barred) for m in (active, exact))
    np.testing.assert_array_equal(found[0], truth[0])
    np.testing.assert_array_equal(found[1], truth[1])
    assert set(found[0].tolist()) == {row for row in few.tolist() if service.catalogue.shown[row]}


def test_a_catalogue_too_small_is_searched_exactly_and_says_so(tmp_path: Path) -> None:
    settings = ServiceSettings().replace(retrieval={"index": "ann", "recall": 1.0})
    with Store.open(f"sqlite:///{tmp_path / 'palate.db'}", clock=lambda: NOW) as store:
        rng = np.random.default_rng(0)
        store.add_events([Event(f"u{p}", f"i{i}", time=NOW) for p in range(40) for i in rng.choice(60, 8, replace=False)])
        retrain(store, tmp_path / "models", "ials", {"dim": 16, "epochs": 2})
        service = Service(store, settings, tmp_path / "models", clock=lambda: NOW)
        active = service.shelf.active
        assert active is not None and isinstance(active.index, ExactIndex)
        assert active.index_words is not None and active.index_words.startswith("exact, because ann can't be used")
        service.close()
