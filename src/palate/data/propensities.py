"""Exposure propensities: the chance θ that a person came to see an item, whether they liked it or not.

A click needs both, ``P(Y=1) = θ γ`` with γ the chance that the item is relevant, so a click weighted by ``1/θ`` stands for
relevance. Propensities are known where a policy logged them; else they are guessed from popularity::

    θ_i = (n_i / max_j n_j)^η          n_i training clicks of item i

That guess is only relative (the most popular item has θ = 1), and popularity holds quality as well as exposure: an item that
is popular since it is good is corrected too far.

Source: Y. Saito et al., "Unbiased Recommender Learning from Missing-Not-At-Random Implicit Feedback", WSDM 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, nearest

#: Where propensities come from: the popularity of items, a column of item attributes, or the value of each event.
Source = Literal["popularity", "column", "value"]
#: Name of the item attribute that holds propensities, unless said otherwise.
COLUMN = "propensity"


def by_popularity(counts: np.ndarray, eta: float = 0.5) -> np.ndarray:
    """Return ``float64[n_items]``: ``(n_i / max n)^η``; an item without clicks counts as having one.

    Parameters
    ----------
    counts
        ``int[n_items]`` training clicks.
    eta
        η; 0 makes every propensity 1 (no correction).
    """
    known = np.maximum(np.asarray(counts, np.float64), 1.0)
    return np.asarray((known / known.max(initial=1.0)) ** eta)


def attach(dataset: Dataset, propensities: np.ndarray, *, column: str = COLUMN) -> Dataset:
    """Return the data set with propensities in it, where models and metrics find them.

    Parameters
    ----------
    propensities
        ``float[n_items]`` goes to the item attribute ``column``; ``float[n_users, n_items]`` to the values of the events, each
        that of its own pair (only clicks need one).

    Raises
    ------
    DataError
        If the shape is another, or a propensity is not above 0 and at most 1.
    """
    theta = np.asarray(propensities, np.float64)
    if theta.shape == (dataset.n_items,):
        values = pa.array(checked(theta, "propensities"))
        table = dataset.items.attributes
        if table is None:
            table = pa.table({column: values})
        elif column in table.column_names:
            table = table.set_column(table.column_names.index(column), column, values)
        else:
            table = table.append_column(column, values)
        return dataset.derive({"step": "propensities of items"}, items=replace(dataset.items, attributes=table))
    if theta.shape == (dataset.n_users, dataset.n_items):
        events = dataset.interactions
        own = checked(theta[events.user, events.item], "propensities").astype(np.float32)
        return dataset.derive({"step": "propensities of events"}, interactions=replace(events, value=own))
    raise DataError(
        f"propensities have one number an item ({dataset.n_items}), or one a pair ({dataset.n_users} x {dataset.n_items}).",
        where="propensities",
        value=list(theta.shape),
    )


def of_items(dataset: Dataset, column: str = COLUMN) -> np.ndarray:
    """Return ``float64[n_items]``, the propensities in an item attribute.

    Raises
    ------
    ConfigError
        If there is no such attribute.
    DataError
        If one is not a number above 0 and at most 1.
    """
    found = dataset.items.column(column)
    if found is None:
        table = dataset.items.attributes
        known = [] if table is None else table.column_names
        advice = nearest(column, known) if known else "palate.data.propensities.attach(dataset, propensities)"
        raise ConfigError("there is no such item attribute.", where="propensity column", value=column, remedy=advice)
    try:
        values = np.array([np.nan if v is None else float(v) for v in found.to_pylist()], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("propensities must be numbers.", where=f"item attribute {column!r}", value=str(error)) from None
    return checked(values, f"item attribute {column!r}")


def of_clicks(dataset: Dataset) -> np.ndarray:
    """Return ``float64[m]``: the propensity of each distinct (user, item) pair, in the order of ``dataset.matrix()``.

    The value of an event is the propensity with which its pair was shown; of repeated events of a pair the mean counts.

    Raises
    ------
    DataError
        If events have no values, or one is not above 0 and at most 1.
    """
    events = dataset.interactions
    if events.value is None:
        raise DataError(
            "events have no values to read propensities from.",
            where=dataset.name,
            remedy="palate.data.propensities.attach(dataset, propensities)",
        )
    theta = checked(events.value.astype(np.float64), "values of events")
    pairs = events.user.astype(np.int64) * dataset.n_items + events.item
    _, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return np.bincount(which, theta) / counts


def checked(theta: np.ndarray, where: str) -> np.ndarray:
    """Return propensities as they are, or say which one can't be."""
    wrong = ~((theta > 0) & (theta <= 1))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            "a propensity is a chance above 0 and at most 1.",
            where=f"{where}, number {at}",
            value=float(theta[at]),
            remedy="an event that could not happen is not in the log; raise tiny ones with clip",
        )
    return theta
