"""``palate serve --engine ray``: several replicas over one PostgreSQL store, on the nodes of a Ray cluster.

Ray Serve listens on every node that has a replica, hands each request to a replica that is free, replaces one that dies, and
drains one that has to go. What replicas agree on stands in the store: an event that one has acknowledged counts in the next
answer of another, and an activated model is taken up by each within a moment. Rates of keys are counted by each replica alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.distributed.cluster import connected, cores_of_nodes
from palate.distributed.replica import APPLICATION, Plan, deployment, serve_module
from palate.errors import ConfigError, PalateError
from palate.extras import require
from palate.serve.run import DRAIN, bound, first_key, serve_bundle, url_of
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store

#: Who needs what may not be installed.
PURPOSE = "palate serve --engine ray"
#: Seconds between looks whether the cluster still serves.
LOOK = 2.0
#: Requests that a replica has under way at once; more wait before it.
UNDER_WAY = 256
#: Seconds between questions whether a replica is well, and for an answer.
HEALTH, SILENCE = 2.0, 30.0
#: Attempts at starting a replica before the start is given up.
ATTEMPTS = 3


@dataclass(frozen=True)
class Serving:
    """A service on a cluster that answers.

    Attributes
    ----------
    url
        Where it answers.
    store
        URL of the store, without the password.
    model
        Version of the active model, or ``None``.
    key, key_file
        An admin key made just now, and where it was written down; ``None`` where the store has keys.
    """

    url: str
    store: str
    model: str | None
    key: str | None
    key_file: Path | None


def serve_on_ray(
    settings: ServiceSettings,
    *,
    bundle: Path | None = None,
    models: Path = Path("models"),
    replicas: int = 2,
    most: int | None = None,
    address: str | None = None,
    on_ready: Callable[[Serving], None] = lambda serving: None,
    until: threading.Event | None = None,
) -> None:
    """Serve from several replicas until told to stop (Ctrl-C, SIGTERM, or ``until``); requests under way are finished first.

    Parameters
    ----------
    settings
        Of the service; the store is PostgreSQL. ``server.host`` is listened on by every node with a replica.
    bundle
        Served as the active model; every node must be able to read the folder.
    models
        Folder below which bundles are published over HTTP; every node must be able to read it.
    replicas
        How many answer, from 1.
    most
        How many may answer under load; by default no more than ``replicas``.
    address
        Of the cluster (``host:port``, ``auto``); by default ``RAY_ADDRESS``, else one is started on this machine.
    on_ready
        Called when the service answers.
    until
        Ends the service when set; for programs.

    Raises
    ------
    ConfigError
        If the store is not PostgreSQL, the port is taken, the cluster serves something already, or has no room.
    PalateError
        If the replicas don't start, or the service is ended from elsewhere.
    """
    _check(settings, replicas, most)
    settings = settings.replace(server={**settings.server.model_dump(), "port": _free(settings)})
    store_url, model, key, key_file = _prepare(settings, bundle, models)
    serve = serve_module(PURPOSE)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connected(PURPOSE, address) as ray:
        if serve.status().proxies:
            remedy = "use another cluster, or end what it serves (serve shutdown)"
            raise ConfigError("the cluster serves something already.", where="Ray Serve", remedy=remedy)
        share = room(cores_of_nodes(ray), most or replicas)
        target = deployment(Plan(settings, models.resolve()), **_options(replicas, most, share))
        try:
            _start(serve, settings, target)
            with _told(until) as ended:
                on_ready(Serving(url_of(settings.server.host, settings.server.port), store_url, model, key, key_file))
                _watch(serve, ended)
        finally:
            _end(serve)


def _check(settings: ServiceSettings, replicas: int, most: int | None) -> None:
    """Refuse what can't work before anything is started."""
    if "://" not in settings.store.url or settings.store.url.startswith("sqlite"):
        raise ConfigError(
            "several replicas need a store that all of them reach.",
            where="store.url",
            value=settings.store.url,
            remedy="use postgresql://USER:PASSWORD@HOST/NAME (palate store export and import move what is there)",
        )
    if replicas < 1:
        raise ConfigError("at least one replica answers.", where="replicas", value=replicas)
    if most is not None and most < replicas:
        raise ConfigError("the most replicas can't be fewer than the least.", where="most", value=most)
    for module in ("fastapi", "uvicorn", "psycopg"):
        require(module, PURPOSE)


def _free(settings: ServiceSettings) -> int:
    """Return the port, or a free one for 0; every node listens on the same."""
    with bound(settings.server.host, settings.server.port) as place:
        return int(place.getsockname()[1])


def _prepare(settings: ServiceSettings, bundle: Path | None, models: Path) -> tuple[str, str | None, str | None, Path | None]:
    """Bring the store up to date, publish the bundle, make the first key; return URL, active model, key and its file."""
    from palate.serve.http.security import Doorman

    with Store.open(settings.store.url) as store:
        Doorman(store, settings.server)  # refuses a service without keys on an address that others reach
        if bundle is not None:
            serve_bundle(store, bundle)
        active = store.active_model()
        return store.url, None if active is None else active.version, *first_key(store, settings, models.resolve().parent)


def room(cores: Sequence[float], replicas: int) -> float:
    """Return the share of a core to ask for each replica: one, or the largest 1/m with which all find a place.

    Parameters
    ----------
    cores
        Of each node.
    replicas
        To be placed.

    Raises
    ------
    ConfigError
        If there is no core.
    """
    total = math.floor(sum(cores))
    if total < 1:
        raise ConfigError("the cluster has no cores to run replicas on.", where="cluster", remedy="add a node")
    parts = math.ceil(replicas / total)
    while sum(math.floor(n * parts) for n in cores) < replicas:
        parts += 1
    return math.floor(1_000 / parts) / 1_000


def _options(replicas: int, most: int | None, share: float) -> dict[str, Any]:
    """Return the options of the deployment."""
    number: dict[str, Any] = {"num_replicas": replicas}
    if most is not None and most > replicas:
        number = {"autoscaling_config": {"min_replicas": replicas, "initial_replicas": replicas, "max_replicas": most}}
    return {
        **number,
        "ray_actor_options": {"num_cpus": share},
        "max_ongoing_requests": UNDER_WAY,
        "graceful_shutdown_timeout_s": DRAIN,
        "graceful_shutdown_wait_loop_s": 0.2,
        "health_check_period_s": HEALTH,
        "health_check_timeout_s": SILENCE,
        "max_constructor_retry_count": ATTEMPTS,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }


def _start(serve: Any, settings: ServiceSettings, target: Any) -> None:
    """Have the nodes listen, and wait until all replicas answer."""
    server = settings.server
    serve.start(http_options={"host": server.host, "port": server.port}, logging_config={"log_level": "WARNING"})
    try:
        serve.run(target.bind(), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        words = [d.message for a in serve.status().applications.values() for d in a.deployments.values()]
        what, where = cause_of("\n".join(words) or str(error))
        remedy = "see whether every node has Palate, reaches the store, and reads the bundle's folder"
        raise PalateError(f"the replicas don't start: {what}", where=where, remedy=remedy) from error


def cause_of(trace: str) -> tuple[str, str]:
    """Return what an error in a replica said, and where, from Ray's text of it."""
    raised = list(re.finditer(r"^[\w.]+: (.+)$", trace, re.MULTILINE))
    if not raised:
        return trace.strip().partition("\n")[0], "Ray Serve"
    where = re.search(r"^  where: (.+)$", trace[raised[-1].end() :], re.MULTILINE)
    return raised[-1][1], where[1] if where else "a replica"


def _watch(serve: Any, ended: threading.Event) -> None:
    """Wait for the end; raise if the service is ended from elsewhere."""
    while not ended.wait(LOOK):
        if APPLICATION not in serve.status().applications:
            raise PalateError("the service was ended from elsewhere.", where="Ray Serve", remedy="start it again")


def _end(serve: Any) -> None:
    """Have the replicas finish what is under way and close, then end Ray Serve."""
    if APPLICATION in serve.status().applications:
        serve.delete(APPLICATION)
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            # Ray prints there that its controller, told to end, has ended
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        serve.shutdown()


@contextlib.contextmanager
def _told(until: threading.Event | None) -> Iterator[threading.Event]:
    """Give an event that is set by Ctrl-C and SIGTERM (in the main thread), or by the caller."""
    ended = threading.Event() if until is None else until
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before = {n: signal.signal(n, lambda *_: ended.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
