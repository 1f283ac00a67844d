"""The service on two nodes over one PostgreSQL store: the same answers, one truth, nothing lost when a replica is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from palate.distributed.replica import merged
from palate.distributed.serve import cause_of, room, serve_on_ray
from palate.errors import ConfigError
from palate.serve.clients.client import Client
from palate.serve.http.app import make_app
from palate.serve.http.metrics import Meters
from palate.serve.http.security import new_key
from palate.serve.models.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store

HERE = Path(__file__).parent


def beside(name: str, *place: str) -> ModuleType:
    """Return a module of other tests."""
    spec = importlib.util.spec_from_file_location(name, HERE.parent.joinpath(*place))
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


postgres = beside("palate_test_serve", "serve", "conftest.py").postgres
fill = beside("palate_test_http", "serve", "http", "conftest.py").fill
replicas = beside("palate_test_replicas", "distributed", "replicas.py")
Writers, check, pids, served = replicas.Writers, replicas.check, replicas.pids, replicas.served


# -- what needs no cluster ------------------------------------------------------------------------------


def test_a_file_is_no_store_for_several():
    with pytest.raises(ConfigError, match="need a store that all of them reach"):
        serve_on_ray(ServiceSettings())
    wanted = ServiceSettings().replace(store={"url": "postgresql://postgres@127.0.0.1:1/none"})
    for wrong in ({"replicas": 0}, {"replicas": 3, "most": 2}):
        with pytest.raises(ConfigError, match="replica"):
            serve_on_ray(wanted, **wrong)


@pytest.mark.parametrize(
    ("cores", "replicas", "share"),
    [
        ([4.0], 2, 1.0),
        ([1.0, 1.0], 2, 1.0),
        ([1.0, 1.0], 3, 0.5),
        ([2.0], 3, 0.5),
        ([1.0, 2.0], 10, 0.25),
        ([8.0, 0.0], 1, 1.0),
    ],
)
def test_every_replica_finds_a_place(cores, replicas, share):
    assert room(cores, replicas) == share


def test_no_cores_no_replicas():
    with pytest.raises(ConfigError, match="no cores"):
        room([0.0], 1)


def test_the_cause_of_a_failed_start_is_named():
    trace = """The deployment failed to start 3 times in a row. Error:
  File "replica.py", line 1928, in initialize
RuntimeError: Traceback (most recent call last):
  File "bundle.py", line 114, in read_manifest
palate.errors.BundleError: no bundle here.
  where: /models/m
  next:  make one with: palate fit
"""
    assert cause_of(trace) == ("no bundle here.", "/models/m")
    assert cause_of("ValueError: odd") == ("odd", "a replica")
    assert cause_of("not placed in time\nat all") == ("not placed in time", "Ray Serve")


def test_meters_of_several_are_one_text():
    from prometheus_client.parser import text_string_to_metric_families

    parts = []
    for replica, number in (("a", 2), ("b", 3)):
        meters = Meters()
        meters.events.inc(number)
        meters.request("/ready", "GET", 200, 0.004)
        parts.append((replica, list(meters.registry.collect())))
    families = {family.name: family for family in text_string_to_metric_families(merged(parts).decode())}
    assert {s.labels["replica"]: s.value for s in families["palate_events"].samples} == {"a": 2.0, "b": 3.0}
    buckets = [s for s in families["palate_request_seconds"].samples if s.labels.get("le") == "0.005"]
    assert [(s.labels["replica"], s.value) for s in buckets] == [("a", 1.0), ("b", 1.0)]


# -- on the cluster -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(two_nodes, postgres, tmp_path_factory) -> Iterator[Any]:
    """A service on both nodes, over a store with people, items and a model."""
    folder, url = tmp_path_factory.mktemp("ray"), postgres.database()
    with Store.open(url) as store:
        fill(store)
        retrain(store, folder / "models", "ials", {"dim": 8, "epochs": 5})
        key = new_key(store, "test", "admin")
    settings = ServiceSettings().replace(store={"url": url}, server={"port": 0, "requests_per_second": 10_000, "burst": 10_000})
    with served(settings, folder, key) as found:
        yield found


@pytest.fixture(scope="module")
def local(cluster) -> Iterator[TestClient]:
    """The same service in this process alone."""
    with Store.open(cluster.settings.store.url) as store:
        service = Service(store, cluster.settings, cluster.folder / "models")
        with TestClient(make_app(service), raise_server_exceptions=False) as client:
            client.headers["Authorization"] = f"Bearer {cluster.key}"
            yield client


SAME = [
    ("POST", "/v1/recommendations", {"user": "u3", "k": 10}),
    ("POST", "/v1/recommendations", {"user": "u4", "k": 5, "diversity": 0.5, "why": True, "trace": True}),
    ("POST", "/v1/recommendations", {"k": 5}),
    ("POST", "/v1/recommendations", {"history": ["i0", "i2"], "k": 5}),
    ("POST", "/v1/similar", {"items": ["i0"], "k": 5}),
    ("POST", "/v1/rank", {"candidates": ["i5", "i6", "i7"], "user": "u1"}),
    ("POST", "/v1/search", {"query": "garden", "k": 5}),
    ("POST", "/v1/explain", {"item": "i8", "user": "u2"}),
    ("GET", "/v1/profile/u5", None),
    ("GET", "/v1/models", None),
    ("GET", "/openapi.json", None),
    ("GET", "/v1/items/none", None),
    ("POST", "/v1/recommendations", {"user": "u3", "k": 100_000}),
    ("POST", "/v1/nothing", {}),
]
#: What is new with every answer.
FRESH = {"slate", "request", "ms", "note"}


def lasting(answer: Any) -> Any:
    """Return an answer without what is new every time."""
    if isinstance(answer, dict):
        return {k: lasting(v) for k, v in answer.items() if k not in FRESH}
    return [lasting(one) for one in answer] if isinstance(answer, list) else answer


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "body"), SAME, ids=[f"{n}-{path}" for n, (_, path, _) in enumerate(SAME)])
def test_each_replica_answers_as_one_process_does(cluster, local, method, path, body):
    wanted = local.request(method, path, json=body)
    for answer in cluster.from_each(method, path, body).values():
        assert answer.status_code == wanted.status_code
        assert lasting(answer.json()) == lasting(wanted.json())
        there = {name for name in wanted.headers if name not in ("content-length", "content-type")}
        assert there <= set(answer.headers) and all(
            answer.headers[name] == wanted.headers[name] for name in there - {"x-request-id"}
        )


@pytest.mark.slow
def test_everybody_answers_alike(cluster, local):
    wanted = {f"u{n}": local.post("/v1/recommendations", json={"user": f"u{n}", "k": 10}).json()["items"] for n in range(20)}
    for user, items in wanted.items():
        assert cluster.send("POST", "/v1/recommendations", {"user": user, "k": 10}).json()["items"] == items


@pytest.mark.slow
def test_the_door_is_the_same(cluster):
    refused = cluster.send("GET", "/v1/models", Authorization="Bearer plt_nobody_x")
    assert refused.status_code == 401 and refused.json()["code"] == "no_key"
    assert refused.headers.get_list("x-request-id") == [refused.json()["request"]]
    own = cluster.send("GET", "/v1/items/none", **{"X-Request-Id": "mine-1"})
    assert own.headers.get_list("x-request-id") == ["mine-1"] and own.json()["request"] == "mine-1"
    odd = cluster.send("GET", "/v1/items/none", **{"X-Request-Id": "<b>"})
    assert odd.status_code == 404 and odd.json()["request"] in odd.headers.get_list("x-request-id")
    large = cluster.send("POST", "/v1/events", {"user": "u", "item": "i", "id": "x" * 3_000_000})
    assert large.status_code == 413 and large.json()["code"] == "too_large" and "x-replica" in large.headers


@pytest.mark.slow
def test_an_event_on_one_counts_in_the_next_answer_of_the_other(cluster):
    crossed = 0
    for n in range(200):
        user = f"new{n}"
        told = cluster.send("POST", "/v1/events", {"user": user, "item": "i4", "id": user})
        assert told.json()["stored"] == 1
        answer = cluster.send("POST", "/v1/recommendations", {"user": user, "k": 20})
        assert not answer.json()["cold"] and "i4" not in [item["id"] for item in answer.json()["items"]]
        crossed += answer.headers["x-replica"] != told.headers["x-replica"]
        if crossed == 5:
            return
    raise AssertionError("one replica did everything")


@pytest.mark.slow
def test_an_activated_model_is_taken_up_by_both(cluster):
    def active() -> set[str]:
        answers = cluster.from_each("POST", "/v1/recommendations", {"user": "u1", "k": 3})
        return {answer.json()["model"] for answer in answers.values()}

    with Store.open(cluster.settings.store.url) as store:
        made = retrain(store, cluster.folder / "models", "ease", activate=False, gate=False)
    before = active()
    assert len(before) == 1 and made.version not in before
    assert cluster.send("POST", f"/v1/models/{made.version}/activate").status_code == 200
    until = time.monotonic() + 20
    while active() != {made.version}:  # the other replica loads it beside its requests
        assert time.monotonic() < until
        time.sleep(0.1)
    assert cluster.send("POST", "/v1/models/rollback").status_code == 200
    time.sleep(0.2)
    assert active() == before


@pytest.mark.slow
def test_an_erased_person_is_gone_from_both(cluster):
    path = "/v1/profile/u7"
    assert all(answer.json()["bundles"] for answer in cluster.from_each("GET", path + "/export").values())
    erased = cluster.send("DELETE", path)
    assert erased.status_code == 200 and erased.json()["bundles"]
    assert [a.status_code for a in cluster.from_each("GET", path + "/export").values()] == [404, 404]


@pytest.mark.slow
def test_an_erasure_by_a_process_outside_is_noticed(cluster, local):
    path, started = "/v1/profile/u8", time.monotonic()
    assert local.delete(path).status_code == 200
    while {answer.status_code for answer in cluster.from_each("GET", path + "/export").values()} != {404}:
        assert time.monotonic() - started < 30, "a replica still knows the person"
        time.sleep(0.2)


@pytest.mark.slow
def test_an_experiment_counts_everywhere_at_once(cluster):
    metrics = [{"name": "clicks", "kind": "feedback", "type": "click"}]
    variants = [{"name": "a"}, {"name": "b", "pipeline": {"diversity": {"kind": "mmr", "level": 0.3}}}]
    spec = {"variants": variants, "metrics": metrics, "planned": 300}
    made = cluster.send("POST", "/v1/experiments", {"name": "both", "spec": spec})
    assert made.status_code == 200, made.text
    for step, wanted in (("start", {"both"}), ("stop", {None})):
        cluster.from_each("POST", "/v1/recommendations", {"user": "u1", "k": 3})  # each remembers what runs
        assert cluster.send("POST", f"/v1/experiments/both/{step}").status_code == 200
        answers = cluster.from_each("POST", "/v1/recommendations", {"user": "u1", "k": 3})
        assert {answer.json().get("experiment") for answer in answers.values()} == wanted


@pytest.mark.slow
def test_meters_are_those_of_both(cluster):
    def events() -> dict[str, float]:
        text = cluster.send("GET", "/v1/metrics").text
        assert text.count("# TYPE palate_events_total counter") == 1
        found = [line for line in text.splitlines() if line.startswith("palate_events_total{")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in found}

    before = events()
    assert set(before) == set(cluster.from_each("GET", "/v1/ready"))
    for n in range(20):
        cluster.send("POST", "/v1/events", {"user": "m", "item": "i1", "id": f"m{n}"})
    after = events()
    assert sum(after.values()) - sum(before.values()) == 20


@pytest.mark.slow
def test_a_killed_replica_loses_nothing_and_comes_back(cluster):
    import ray

    before = pids(ray)
    killed = min(before)
    assert len(before) == 2
    writers = Writers(cluster, "kill")
    with writers.going():
        time.sleep(1.5)
        started, first = time.monotonic(), len(writers.acknowledged)
        os.kill(before[killed], signal.SIGKILL)
        while killed in (now := pids(ray)) or len(now) < 2:
            assert time.monotonic() - started < 60, "it did not come back"
            time.sleep(0.2)
        time.sleep(1.0)
    assert writers.refused == [], "a client with retries never hears of it"
    check(writers, first)
    assert first > 100 and killed not in cluster.from_each("GET", "/v1/ready")


@pytest.mark.slow
def test_the_end_drains_what_is_under_way(cluster, local):
    import psycopg
    import ray

    writers = Writers(cluster, "end", retries=0)
    with writers.going():
        time.sleep(1.0)
        cluster.end.set()
        cluster.thread.join(timeout=60)
    assert not cluster.thread.is_alive() and cluster.failed == []
    check(writers, 100)
    assert {error.status for error in writers.refused} <= {0, 404}, "nothing under way was dropped"
    assert pids(ray) == {}
    with pytest.raises(httpx.ConnectError):
        cluster.send("GET", "/v1/health")
    local.app.state.service.store.close()  # only connections of replicas are asked for
    with psycopg.connect(cluster.settings.store.url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    assert row == (1,), "a replica left a connection open"


@pytest.mark.slow
def test_from_the_command_line(two_nodes, postgres, tmp_path):
    url = postgres.database()
    command = [sys.executable, "-m", "palate.cli.main", "serve", "--engine", "ray", "--replicas", "1", "--port", "0"]
    command += ["--address", two_nodes.address, "--store", url, "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        told = ""
        while "}" not in told and (line := process.stdout.readline()):
            told += line
        started = json.loads(told)
        with Client(started["url"], started["key"]) as client:
            assert client.add_events([{"user": "ann", "item": "tea"}]).stored == 1
            assert client.ready().ready
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        out, said = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "", said
    assert "Warning" not in said and "Traceback" not in said and said.count("\n") < 3, said
