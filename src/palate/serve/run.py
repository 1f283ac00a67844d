"""Start a service: open the store, publish what is to be served, listen, and end cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from palate.contracts.bundle import read_bundle, read_manifest
from palate.errors import ConfigError
from palate.extras import require
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.demo import fill
from palate.serve.memory.lasting import lasting
from palate.serve.models.production import publish
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store
from palate.serve.store.exchange import load_items, shares_items

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Seconds that requests under way are given to finish when the service ends.
DRAIN = 10
#: Seconds after which a busy thread lets others run: answers, the event loop and the writer take turns in one process.
SWITCH = 0.002


def home() -> Path:
    """Return the folder of the service that starts with nothing else: the platform's place for data of programs."""
    return Path(platformdirs.user_data_dir("palate", appauthor=False)) / "service"


@dataclass(frozen=True)
class Started:
    """A service that is about to listen.

    Attributes
    ----------
    service
        Open.
    key
        An admin key made just now, for a store that had none; ``None`` otherwise.
    key_file
        Where it was written down, readable by its owner only.
    """

    service: Service
    key: str | None
    key_file: Path | None


@contextmanager
def prepared(
    settings: ServiceSettings,
    *,
    bundle: Path | None = None,
    demo: Path | None = None,
    progress: Progress = silent,
) -> Iterator[Started]:
    """Open the store and make the service ready; close both at the end.

    Parameters
    ----------
    bundle
        Served as the active model; entered into the store under its own fingerprint where it is new there.
    demo
        Folder of the demo: an empty store is filled with MovieLens 100K, and a model is fitted and activated.
    """
    for module, purpose in (("fastapi", "the service"), ("uvicorn", "the service")):
        require(module, purpose)
    store = Store.open(settings.store.url, synchronous=settings.store.synchronous)
    try:
        models = demo / "models" if demo is not None else Path("models")
        if demo is not None and not store.models():
            fill(store, models, progress=progress)
        if bundle is not None:
            serve_bundle(store, bundle)
        progress(ProgressEvent("Load", 0, 1))
        with lasting():
            service = Service(store, settings, models)
        progress(ProgressEvent("Load", 1, 1))
        with contextlib.closing(service):
            yield Started(service, *first_key(store, settings, models.parent))
    finally:
        store.close()


def first_key(store: Store, settings: ServiceSettings, folder: Path) -> tuple[str | None, Path | None]:
    """Make an admin key for a store without any, and write it down where only its owner can read it."""
    if settings.server.insecure_loopback or store.keys():
        return None, None
    from palate.serve.http.security import new_key

    key = new_key(store, "admin", "admin")
    place = folder / "admin.key"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch(mode=0o600)
    place.chmod(0o600)
    place.write_text(key + "\n", encoding="utf-8")
    return key, place


def serve_bundle(store: Store, bundle: Path) -> str:
    """Publish and activate a bundle under a version made of its system and content; return the version.

    A store without any items gets the bundle's, so that there is something to answer with.

    Raises
    ------
    ConfigError
        If the store has items, but none of the bundle's: it belongs to something else.
    """
    facts, things = read_manifest(bundle), read_bundle(bundle).items
    if not load_items(store, things) and not shares_items(store, things):
        raise ConfigError(
            "the store has none of the bundle's items.",
            where=store.url,
            value=bundle,
            remedy="name a store of its own: palate serve --store sqlite:///own.db --bundle DIR (a new one gets the items)",
        )
    version = f"{facts['system']}-{str(facts['checksum'])[:8]}"
    if store.model(version) is None:
        publish(store, version, bundle, activate=True)
    else:
        store.activate(version)
    return version


def listen(
    service: Service,
    *,
    on_ready: Callable[[str], None] = lambda url: None,
    extend: Callable[[FastAPI, Service], None] | None = None,
    **options: Any,
) -> None:
    """Answer until told to stop (Ctrl-C, or SIGTERM); requests under way are finished first.

    Parameters
    ----------
    on_ready
        Called with the URL when the service answers.
    extend
        Adds to the application, such as the console's pages.
    options
        Of uvicorn.

    Raises
    ------
    ConfigError
        If the port is taken.
    """
    import uvicorn

    server = service.settings.server
    place = bound(server.host, server.port)
    with lasting():
        from palate.serve.http.app import make_app

        config = uvicorn.Config(
            make_app(service, extend),
            log_level="warning",
            timeout_graceful_shutdown=DRAIN,
            server_header=False,
            proxy_headers=False,  # the application believes the proxies that the settings name, and nobody else
            date_header=False,
            **options,
        )

    class Server(uvicorn.Server):
        """A server that ends on a signal without raising it again afterwards."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    app = Server(config)
    url = url_of(*place.getsockname()[:2])

    async def run() -> None:
        task = asyncio.create_task(app.serve(sockets=[place]))
        while not app.started and not task.done():
            await asyncio.sleep(0.01)
        if app.started:
            on_ready(url)
        await task

    sys.setswitchinterval(SWITCH)
    service.warm()
    with place:
        asyncio.run(run())


def url_of(host: str, port: int) -> str:
    """Return the URL of a service that listens there."""
    return f"http://{'[' + host + ']' if ':' in host else host}:{port}"


def bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, or say that it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else head and body of an answer lie 40 ms apart
    try:
        place.bind((host, port))
    except OSError as error:
        place.close()
        raise ConfigError(
            "the service can't listen there.",
            where=f"{host}:{port}",
            value=error.strerror,
            remedy="choose another with --port (0 takes any free one)",
        ) from None
    return place
