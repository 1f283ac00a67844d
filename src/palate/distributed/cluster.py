"""The Ray cluster that work runs on: one that is there, or one started on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from palate.errors import ConfigError
from palate.extras import require

#: How a process is told where the cluster is, by Ray's own convention.
ADDRESS = "RAY_ADDRESS"


def ray_module(purpose: str) -> Any:
    """Import Ray, quietly and without its usage reports, or say how to install it.

    Parameters
    ----------
    purpose
        Who needs it, such as ``"palate fit --workers"``.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own classes warn of pydantic's changes, dozens of times
        return require("ray", purpose)


@contextmanager
def connected(purpose: str, address: str | None = None, *, cpus: int | None = None) -> Iterator[Any]:
    """Be connected to a cluster; yield the module ``ray``.

    A connection of this process that is open already is used, and left open. Else the cluster at ``address`` or at
    ``RAY_ADDRESS`` is joined; without either, one is started on this machine. What was opened here is closed at the end.

    Parameters
    ----------
    purpose
        Who needs it, for the error where Ray is not installed.
    address
        Of a cluster (``host:port``, ``ray://host:port``, ``auto``).
    cpus
        Cores of a cluster that is started here; by default all.

    Raises
    ------
    ConfigError
        If no cluster answers at the address.
    """
    ray = ray_module(purpose)
    if ray.is_initialized():
        yield ray
        return
    place = address or os.environ.get(ADDRESS)
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if place is None else {}
    try:
        ray.init(address=place or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        remedy = "start one (ray start --head), or leave the address out to use this machine alone"
        raise ConfigError("no Ray cluster answers there.", where=ADDRESS, value=place, remedy=remedy) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def cores_of_nodes(ray: Any) -> list[int]:
    """Return the cores of each node that is alive."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
