"""The conformance suite on every system of the catalogue, and on models that break one promise each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from palate.catalog.registry import systems
from palate.contracts.conformance import CHECKS, check_recommender
from palate.contracts.conformance_bench import small_world
from palate.contracts.recommender import Recommender
from palate.nn.knowledge import Knowledge

OURS = [system for system in systems().values() if system.verb == "recommend" and system.status == "works"]


def without_optional_parts(system: Any) -> None:
    if "torch" in system.needs:
        pytest.importorskip("torch")


def quick(system: Any) -> dict[str, Any]:
    """Settings to fit fast: few epochs and short vectors, unless the catalogue says otherwise."""
    usual = {"epochs": 2, "dim": 8}
    known = system.load().Settings.model_fields
    return {key: value for key, value in usual.items() if key in known} | dict(system.quick)


@pytest.fixture(scope="module")
def suites() -> dict[str, dict[str, Callable[[], None]]]:
    """Checks of each system, sharing one fitted model."""
    return {s.name: dict(check_recommender(lambda s=s: s.load()(**quick(s)))) for s in OURS}


def test_the_small_world_holds_all_that_a_system_may_read() -> None:
    """Triples tell of every item but the last; people have ties; items have texts."""
    world = small_world()
    knowledge = Knowledge.of(world)
    assert len(knowledge) == 2 * (world.n_items - 1) and knowledge.n_relations == 2 and knowledge.n_rows == world.n_items + 6
    assert len(world.graphs["social"]) > 0 and world.items.column("title") is not None


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_every_system_conforms(system: Any, check: str, suites: dict[str, dict[str, Callable[[], None]]]) -> None:
    without_optional_parts(system)
    suites[system.name][check]()


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_what_the_catalogue_says_of_abilities_is_true(system: Any) -> None:
    without_optional_parts(system)
    kind = system.load()
    assert kind.name == system.name and issubclass(kind, Recommender)
    assert ("vectors" in system.abilities) <= hasattr(kind, "item_vectors")
    assert ("incremental" in system.abilities) == kind.can_update
    assert ("words" in system.abilities) == kind.reads_words
    assert ("ties" in system.abilities) == kind.reads_ties
