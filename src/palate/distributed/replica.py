"""One replica: a service over the store that all share, behind the same application as in one process.

What differs from one process: an answer names its replica (``X-Replica``), meters are those of all replicas, each line labelled
with its own, and what one replica must forget (an erased person, a stopped experiment) all forget before it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.distributed.cluster import ray_module
from palate.errors import PalateError
from palate.extras import require
from palate.runtime import set_threads
from palate.serve.errors import Unavailable
from palate.serve.memory.lasting import lasting
from palate.serve.run import SWITCH
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import Metric

    from palate.serve.http.guard import App, Message, Receive, Scope, Send

#: Names on the cluster.
APPLICATION, DEPLOYMENT = "palate", "Replica"
#: Header that names the replica which answered.
HEADER = b"x-replica"
#: Seconds in which all replicas have to do what one asks of them.
TOLD = 30.0
#: Seconds after which a writer that says nothing is taken for lost; a store that doesn't answer is known much earlier.
HUNG = 25.0
#: Ids of requests that are taken over from the proxy, which puts them on the answer.
_PLAIN = re.compile(rb"[\w.:-]{1,80}")
_REQUEST_ID = b"x-request-id"
#: Asks every replica to do something; returns what each said.
Everyone = Callable[[str], Sequence[Any]]


@dataclass(frozen=True)
class Plan:
    """What a replica is made from.

    Attributes
    ----------
    settings
        With the URL of a store that every node reaches.
    models
        Folder below which bundles are published over HTTP, on every node the same.
    """

    settings: ServiceSettings
    models: Path


class SharedService(Service):
    """A service that is one of several.

    Parameters
    ----------
    store, settings, models
        As of :class:`~palate.serve.service.Service`.
    everyone
        Called with the name of a method of each replica.
    """

    def __init__(self, store: Store, settings: ServiceSettings, models: str | Path, *, everyone: Everyone) -> None:
        self.everyone = everyone
        super().__init__(store, settings, models)

    def settle(self) -> None:
        """Wait until what was handed to any replica's writer so far is on disk."""
        self.everyone("settle")

    def forget_caches(self) -> None:
        """Drop everywhere what is remembered."""
        self.everyone("forget")

    def forget_erased(self) -> None:
        """Have no replica hold whomever the store's erasures removed."""
        self.everyone("forget")

    def settle_here(self) -> None:
        """Wait until what was handed to this replica's writer so far is on disk."""
        super().settle()

    def forget_here(self) -> None:
        """Drop what this replica remembers, and whoever was erased."""
        self.forgetting.catch_up()

    def healthy(self) -> None:
        """Raise if only a new process can help: what is handed to the writer never comes back.

        A store that doesn't answer is no such case: every replica would be ended, and none could start. ``/v1/ready`` tells of
        it, requests are answered with 503, and all goes on when the store is back.
        """
        self.ready()
        with contextlib.suppress(Unavailable):
            self.writer.add_events([]).result(HUNG)


class Named:
    """ASGI middleware: the answer names its replica, and carries one request id, the proxy's."""

    def __init__(self, app: App, replica: str) -> None:
        self.app, self.replica = app, replica.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _REQUEST_ID), b"")
        known = _PLAIN.fullmatch(given) is not None
        if known:
            scope["palate.request"] = given.decode()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(n, v) for n, v in message.get("headers", []) if not (known and n == _REQUEST_ID)]
                message["headers"] = [*kept, (HEADER, self.replica)]
            await send(message)

        await self.app(scope, receive, sending)


def merged(parts: Iterable[tuple[str, Iterable[Metric]]]) -> bytes:
    """Return the meters of several replicas in Prometheus' text form, each sample labelled with its replica.

    Parameters
    ----------
    parts
        Name and meters of each replica.
    """
    from prometheus_client import Metric, generate_latest

    families: dict[str, Metric] = {}
    for replica, metrics in parts:
        for metric in metrics:
            whole = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            whole.samples.extend(s._replace(labels={**s.labels, "replica": replica}) for s in metric.samples)

    class Whole:
        def collect(self) -> Iterable[Metric]:
            return families.values()

    return generate_latest(Whole())


@dataclass(frozen=True)
class Opened:
    """A replica at work: its name, service and application."""

    name: str
    service: SharedService
    app: FastAPI

    @classmethod
    def of(cls, plan: Plan, name: str, everyone: Everyone) -> Opened:
        """Open the store, load and warm up the active model, and build the application."""
        from palate.serve.http.app import make_app

        set_threads(1)
        sys.setswitchinterval(SWITCH)
        store = Store.open(plan.settings.store.url)
        try:
            with lasting():
                service = SharedService(store, plan.settings, plan.models, everyone=everyone)
        except BaseException:
            store.close()
            raise
        app = make_app(service)
        app.add_middleware(Named, replica=name)

        async def meters() -> bytes:
            return merged(await asyncio.to_thread(everyone, "meters"))

        app.state.all_meters = meters
        return cls(name, service, app)

    def meters(self) -> tuple[str, list[Metric]]:
        """Return this replica's name and meters."""
        meters = self.app.state.meters
        meters.items.set(int(self.service.catalogue.shown.sum()))
        return self.name, list(meters.registry.collect())


def serve_module(purpose: str) -> Any:
    """Import Ray Serve, as quietly as Ray itself."""
    import warnings

    ray_module(purpose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return require("ray.serve", purpose)


def all_replicas() -> Everyone:
    """Return what asks every replica of this application, from inside of one."""
    serve = serve_module("a replica")
    from ray.serve.exceptions import DeploymentUnavailableError

    handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)

    def everyone(method: str) -> Sequence[Any]:
        until = time.monotonic() + TOLD
        while True:
            try:
                said: list[Any] = handle.broadcast(method).results(timeout_s=TOLD)
                return said
            except DeploymentUnavailableError:  # a moment after the start, the list of replicas is not here yet
                if time.monotonic() > until:
                    raise _silent(method) from None
                time.sleep(0.05)
            except PalateError:
                raise
            except Exception as error:
                raise _silent(method) from error

    return everyone


def _silent(method: str) -> Unavailable:
    return Unavailable("a replica doesn't answer.", where=f"replicas: {method}", remedy="ask again")


def deployment(plan: Plan, **options: Any) -> Any:
    """Return Ray Serve's description of the replicas.

    Parameters
    ----------
    options
        Of ``ray.serve.deployment``.
    """
    serve = serve_module("replicas")
    made: list[Opened] = []  # in the replica's process: itself

    def build() -> FastAPI:
        made.append(Opened.of(plan, serve.get_replica_context().replica_tag, all_replicas()))
        return made[0].app

    class Replica:
        """What is asked of a replica by the cluster, and by other replicas; requests go to the application."""

        async def check_health(self) -> None:
            await asyncio.to_thread(made[0].service.healthy)

        async def settle(self) -> None:
            await asyncio.to_thread(made[0].service.settle_here)

        async def forget(self) -> None:
            await asyncio.to_thread(made[0].service.forget_here)

        async def meters(self) -> tuple[str, list[Metric]]:
            return made[0].meters()

        def __del__(self) -> None:
            for one in made:
                one.service.store.close()  # the application has closed the service by now

    return serve.deployment(serve.ingress(build)(Replica), name=DEPLOYMENT, **options)
