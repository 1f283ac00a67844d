"""The conformance suite of recommenders: what every system must do, as plain functions that anybody can call.

A system enters the catalogue when it passes::

    for name, check in check_recommender(lambda: MyModel(epochs=2)):
        check()

Each check raises :class:`~palate.errors.NonConformingError` with the reason. ``make`` returns a new unfitted model with
settings under which it fits a few dozen people in about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from palate.contracts import conformance_answers, conformance_fitting, conformance_updates  # noqa: F401  (they enter checks)
from palate.contracts.conformance_bench import CHECKS, Bench
from palate.contracts.recommender import Recommender
from palate.data.dataset import Dataset
from palate.errors import NonConformingError

__all__ = ["CHECKS", "NonConformingError", "check_recommender"]


def check_recommender(
    make: Callable[[], Recommender], *, dataset: Dataset | None = None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check and a function that runs it.

    Parameters
    ----------
    make
        Returns a new unfitted model, quick to fit.
    dataset
        Training data with at least ten items and ten people who have a history; a small world by default.
    """
    bench = Bench(make, dataset)
    for name, check in CHECKS.items():
        yield name, partial(check, bench)
