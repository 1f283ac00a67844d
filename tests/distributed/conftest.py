"""A Ray cluster of two nodes on this machine, one core each, for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from palate.distributed.cluster import ray_module

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """The cluster; this process is connected to it."""
    ray = ray_module("tests")
    from ray.cluster_utils import Cluster

    os.environ["RAY_DEDUP_LOGS"] = "0"
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 300_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=300_000_000)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
