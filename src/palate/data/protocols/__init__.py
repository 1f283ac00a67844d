"""Protocols: how a data set is cut into train, validation and test.

===================  ============================================================================================
``leave_one_out``    each user's last event is the test, the one before it the validation
``global_time``      one moment for all: before it is known, after it is asked
``user_ratio``       a share of each user's events, the latest or random ones
``held_out_users``   some users are never seen in training; part of their events is folded in, the rest asked
``held_out_items``   some items are never seen in training; what people did with them is asked
``sessions``         the latest sessions; what came before in the session is known, its last event asked
``next_product``     the last event of each session or sequence, the one before it the validation (MerRec)
``next_event``       what people do after one moment, or their last event, runs on one item taken as one (MerRec)
``given``            parts that somebody published
===================  ============================================================================================

:func:`rolling` cuts by global time at several moments. :func:`palate.data.protocols.event_row_files.split_event_rows` makes
rows for rankers of a marketplace's events; :func:`palate.data.protocols.event_sequences.next_items` asks for several items.

Equal times keep file order. Training data keep the whole vocabularies, so items and users that training never mentions still
have their numbers. A split's spec (protocol, options, seed, fingerprint of the data) rebuilds it exactly: :func:`rebuild`.

Examples
--------
>>> from palate.data.dataset import Dataset
>>> data = Dataset.from_columns(["ann"] * 4 + ["ben"] * 2, [1, 2, 3, 4, 1, 2], time=[10, 20, 30, 40, 15, 25])
>>> parts = split(data, "leave_one_out")
>>> parts
Split('leave_one_out', train 4, valid 1, test 1)
>>> rebuild(data, parts.spec).fingerprint == parts.fingerprint
True
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from palate.data.dataset import Dataset
from palate.data.filters import replay
from palate.data.protocols.by_item import held_out_items
from palate.data.protocols.by_session import as_sessions, sessions
from palate.data.protocols.by_time import global_time, rolling
from palate.data.protocols.by_user import held_out_users, leave_one_out, user_ratio
from palate.data.protocols.event_sequences import next_event, next_product
from palate.data.protocols.published import from_parts, given
from palate.data.split import Split
from palate.errors import ConfigError, DataError, nearest

__all__ = [
    "PROTOCOLS",
    "as_sessions",
    "from_parts",
    "given",
    "global_time",
    "held_out_items",
    "held_out_users",
    "leave_one_out",
    "next_event",
    "next_product",
    "rebuild",
    "rolling",
    "sessions",
    "split",
    "user_ratio",
]

#: The table of protocols.
PROTOCOLS: Mapping[str, Callable[..., Split]] = MappingProxyType(
    {
        "leave_one_out": leave_one_out,
        "global_time": global_time,
        "user_ratio": user_ratio,
        "held_out_users": held_out_users,
        "held_out_items": held_out_items,
        "sessions": sessions,
        "next_product": next_product,
        "next_event": next_event,
        "given": given,
    }
)


def split(dataset: Dataset, protocol: str, *, seed: int = 0, **options: Any) -> Split:
    """Cut a data set by a protocol.

    Parameters
    ----------
    protocol
        One of the table above.
    seed
        Fixes random choices, where the protocol makes any.
    **options
        Those of the protocol's function in this package (:func:`leave_one_out`, :func:`global_time` …).

    Raises
    ------
    ConfigError
        If the protocol or an option is unknown (the nearest right one is named), or out of range.
    DataError
        If the data lack what the protocol needs, or a part would be empty that can't be.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError("unknown protocol.", where="protocol", value=protocol, remedy=nearest(protocol, PROTOCOLS))
    function = PROTOCOLS[protocol]
    allowed = [name for name in inspect.signature(function).parameters if name not in ("dataset", "seed")]
    for name in options:
        if name not in allowed:
            raise ConfigError("unknown option.", where=f"protocol {protocol}", value=name, remedy=nearest(name, allowed))
    return function(dataset, seed=seed, **options)


def rebuild(dataset: Dataset, spec: Mapping[str, Any], *, steps: Iterable[Mapping[str, Any]] = (), **parts: Dataset) -> Split:
    """Cut the same data again by the spec of a split; the result has the same fingerprint.

    Parameters
    ----------
    dataset
        The data that the split was made of (of ``given``: the training part).
    spec
        ``Split.spec``.
    steps
        Filters to apply first, as recorded in ``Split.train.spec`` (``steps`` of ``split.json``), where ``dataset`` is the
        source as it was read.
    **parts
        Published parts (``test``, and ``valid`` where it was one), for the protocol ``given``.

    Raises
    ------
    DataError
        If the data are not those of the spec.
    """
    dataset = replay(dataset, steps)
    options = {name: value for name, value in spec.items() if name not in ("protocol", "seed", "data")}
    made_of = spec["data"]
    ours = dataset.fingerprint if isinstance(made_of, str) else [dataset.fingerprint, *(p.fingerprint for p in parts.values())]
    if sorted(ours) != sorted(made_of):
        remedy = "read and filter the data as they were"
        raise DataError("these are not the data that the split was made of.", where=dataset.name, value=ours, remedy=remedy)
    return split(dataset, spec["protocol"], seed=spec["seed"], **options, **parts)
