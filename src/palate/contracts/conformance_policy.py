"""The conformance suite of policies: what every one must do, as plain functions that anybody can call.

A policy enters the catalogue when it passes::

    for name, check in check_policy(lambda: MyPolicy(epsilon=0.2)):
        check()

The heart of it is honesty about chance: a slate that is shown in a share of cases must have said so, because everything that is
learnt from a log afterwards rests on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from palate.contracts import conformance_policy_answers, conformance_policy_fitting  # noqa: F401  (they enter checks)
from palate.contracts.conformance_policy_bench import CHECKS, PolicyBench
from palate.contracts.policy import Policy
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset

__all__ = ["CHECKS", "check_policy"]


def check_policy(
    make: Callable[[], Policy], *, dataset: Dataset | None = None, ask: Callable[[int], Requests] | None = None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check and a function that runs it.

    Parameters
    ----------
    make
        Returns a new unfitted policy.
    dataset
        A catalogue of ten items or more; a small world by default.
    ask
        Returns ``n`` requests without exclusions or candidates, for a policy that needs more than users and histories
        (context features); by default people of the data with their histories.
    """
    bench = PolicyBench(make, dataset, ask)
    for name, check in CHECKS.items():
        yield name, partial(check, bench)
