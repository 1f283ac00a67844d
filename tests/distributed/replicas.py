"""What the tests of the service on a cluster share: the service, its replicas' processes, and writers with their own books."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from palate.distributed.serve import Serving, serve_on_ray
from palate.serve.clients.client import Client, ServiceError
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store


@dataclass
class Cluster:
    """A service on two nodes."""

    url: str
    settings: ServiceSettings
    folder: Path
    key: str
    end: threading.Event
    thread: threading.Thread
    failed: list[BaseException] = field(default_factory=list)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Send a request over a connection of its own."""
        given = {"Authorization": f"Bearer {self.key}", **headers}
        return httpx.request(method, self.url + path, json=body, headers=given, timeout=30)

    def from_each(self, method: str, path: str, body: Any = None) -> dict[str, httpx.Response]:
        """Ask until both replicas have answered; return the first answer of each."""
        seen: dict[str, httpx.Response] = {}
        for _ in range(200):
            answer = self.send(method, path, body)
            seen.setdefault(answer.headers["x-replica"], answer)
            if len(seen) == 2:
                return seen
        raise AssertionError(f"only {set(seen)} answered")


@contextlib.contextmanager
def served(settings: ServiceSettings, folder: Path, key: str) -> Iterator[Cluster]:
    """Serve from a thread of this process."""
    ready: list[Serving] = []
    end, failed = threading.Event(), []

    def run() -> None:
        try:
            serve_on_ray(settings, replicas=2, models=folder / "models", on_ready=ready.append, until=end)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not ready and thread.is_alive():
        time.sleep(0.05)
    assert ready, failed
    try:
        yield Cluster(ready[0].url, settings, folder, key, end, thread, failed)
    finally:
        end.set()
        thread.join()


def pids(ray: Any) -> dict[str, int]:
    """Return the process of each replica that lives."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if "#Replica#" in actor["name"]:
            with contextlib.suppress(ValueError, ray.exceptions.RayActorError):  # it has just died
                handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
                found[actor["name"].rpartition("#")[2]] = ray.get(handle.__ray_call__.remote(lambda self: os.getpid()))
    return found


def kept(url: str, name: str) -> list[str]:
    """Return the ids of all events of some writers."""
    found: list[str] = []
    with Store.open(url) as store:
        position = 0
        while (page := store.events_after(position)).num_rows:
            found.extend(i for i in page.column("id").to_pylist() if i is not None and i.startswith(f"{name}-"))
            position = page.column("n")[-1].as_py()
    return found


@dataclass
class Writers:
    """Threads that send batches of events with retries, each batch until it is acknowledged."""

    cluster: Cluster
    name: str
    number: int = 3
    retries: int = 50
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    refused: list[ServiceError] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def write(self, worker: int) -> None:
        with Client(self.cluster.url, self.cluster.key, retries=self.retries) as client:
            for number in itertools.count():
                ids = [f"{self.name}-{worker}-{number}-{at}" for at in range(20)]
                self.sent.update(ids)
                while not self.stop.is_set():
                    try:
                        done = client.add_events(
                            [{"id": i, "user": f"w{worker}", "item": f"i{at}"} for at, i in enumerate(ids)]
                        )
                    except ServiceError as error:
                        self.refused.append(error)  # sent again with the same ids
                        time.sleep(0.02)
                        continue
                    assert done.stored + done.repeated == 20
                    self.acknowledged.update(ids)
                    break
                if self.stop.is_set():
                    return

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.write, args=(worker,)) for worker in range(self.number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()


def check(writers: Writers, least: int) -> None:
    """Hold the store to what writers were told."""
    there = kept(writers.cluster.settings.store.url, writers.name)
    assert len(there) == len(set(there)), "an event is doubled"
    assert writers.acknowledged <= set(there), "an acknowledged event is lost"
    assert set(there) <= writers.sent and len(writers.acknowledged) > least
