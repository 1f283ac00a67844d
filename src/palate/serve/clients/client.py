"""Clients of the service, for applications: typed, with retries that can't double an event::

    with Client("http://127.0.0.1:8765", key="plt_…") as palate:
        palate.add_events([{"user": "ann", "item": "matrix", "type": "watch"}])
        for offered in palate.recommend(user="ann", k=5).items:
            print(offered.title)

``AsyncClient`` has the same methods, to be awaited. Answers are the classes of :mod:`palate.serve.wire`; what the service
refuses is a :class:`ServiceError` with its words. Busy or unreachable services are asked again (``retries`` times, after the
seconds that the service names); events and feedback carry an id of their own, so asking again is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from palate.errors import PalateError
from palate.extras import require
from palate.serve import wire
from palate.serve.clients.calls import Call, Calls

A = TypeVar("A")
#: Statuses after which asking again may help.
AGAIN = frozenset({429, 503})


class ServiceError(PalateError):
    """The service refused, or couldn't be reached.

    Attributes
    ----------
    status
        HTTP status; 0 where there was no answer.
    code
        Word for the kind of error, such as ``"not_found"``.
    """

    def __init__(self, status: int, code: str, what: str, **more: Any) -> None:
        super().__init__(what, **more)
        self.status, self.code = status, code


def _passing(response: Any) -> bool:
    """Say whether asking again may help: the service says so, or something between failed (its words are not ours)."""
    ours = response.headers.get("Content-Type", "").startswith("application/json")
    return response.status_code in AGAIN or (response.status_code >= 500 and not ours)


class ClientBase:
    """What both clients share: where the service is, and how answers are read."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0, retries: int = 3) -> None:
        self.retries = retries
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._options = {"base_url": url.rstrip("/"), "headers": headers, "timeout": timeout}
        self._httpx: Any = require("httpx", "the client")

    def _wait(self, response: Any, attempt: int) -> float | None:
        """Return seconds to wait before asking again; ``None`` if the answer stands."""
        if attempt >= self.retries or (response is not None and not _passing(response)):
            return None
        named = None if response is None else response.headers.get("Retry-After")
        return float(named) if named is not None and named.isdigit() else 0.1 * 2.0**attempt

    def _finish(self, call: Call[A], response: Any, lost: Exception | None) -> A:
        """Read an answer, or raise what the service said."""
        if response is None:
            remedy = "start it (palate serve), or check the address"
            where = self._options["base_url"]
            raise ServiceError(0, "unreachable", "the service can't be reached.", where=where, value=str(lost), remedy=remedy)
        if response.is_success or (call.answer is wire.Ready and response.status_code == 503):
            found, kind = response.json(), call.answer
            made: A = kind.model_validate(found) if isinstance(kind, type) and issubclass(kind, BaseModel) else found
            return made
        try:
            problem = wire.Problem.model_validate(response.json())
        except ValueError:
            raise ServiceError(response.status_code, "unknown", "the service gave an answer that can't be read.") from None
        raise ServiceError(
            response.status_code, problem.code, problem.what, where=problem.where, value=problem.value, remedy=problem.remedy
        )


class Client(ClientBase):
    """Client of a service (see the module's text)."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0, retries: int = 3) -> None:
        super().__init__(url, key, timeout=timeout, retries=retries)
        self._http: Any = self._httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def send(self, call: Call[A]) -> A:
        """Send a request, again where that may help, and return its answer."""
        for attempt in range(self.retries + 1):
            response, lost = None, None
            try:
                response = self._http.request(call.method, call.path, json=call.body, params=call.params)
            except self._httpx.TransportError as error:
                lost = error
            wait = self._wait(response, attempt)
            if wait is None:
                break
            time.sleep(wait)
        return self._finish(call, response, lost)

    def add_events(self, events: Sequence[Mapping[str, Any]]) -> wire.EventsKept:
        """Send events (keys of :class:`~palate.serve.wire.EventIn`): all are kept, or none."""
        return self.send(Calls.add_events(events))

    def feedback(self, slate: str, item: str, kind: str = "click", **more: Any) -> wire.FeedbackKept:
        """Say what a person made of an item in a slate."""
        return self.send(Calls.feedback(slate, item, kind, more))

    def put_items(self, items: Sequence[Mapping[str, Any]]) -> wire.Kept:
        """Make or replace items (keys of :class:`~palate.serve.wire.ItemIn`)."""
        return self.send(Calls.put_items(items))

    def item(self, item: str) -> wire.ItemOut:
        """Return an item."""
        return self.send(Calls.item(item))

    def items(self, after: str | None = None, limit: int = 100) -> wire.ItemPage:
        """Return a page of items."""
        return self.send(Calls.items(after, limit))

    def delete_item(self, item: str) -> wire.Kept:
        """Delete an item."""
        return self.send(Calls.delete_item(item))

    def put_users(self, users: Sequence[Mapping[str, Any]]) -> wire.Kept:
        """Make or replace users."""
        return self.send(Calls.put_users(users))

    def user(self, user: str) -> wire.UserOut:
        """Return a user."""
        return self.send(Calls.user(user))

    def delete_user(self, user: str) -> wire.Kept:
        """Delete a user's attributes; what the person did stays (:meth:`erase` takes all)."""
        return self.send(Calls.delete_user(user))

    def recommend(self, user: str | None = None, **more: Any) -> wire.Slate:
        """Ask for a slate (keys of :class:`~palate.serve.wire.RecommendIn`)."""
        return self.send(Calls.ask("recommendations", wire.RecommendIn, wire.Slate, {"user": user, **more}))

    def similar(self, items: Sequence[str], **more: Any) -> wire.ScoredList:
        """Ask for items like one or several."""
        return self.send(Calls.ask("similar", wire.SimilarIn, wire.ScoredList, {"items": list(items), **more}))

    def rank(self, candidates: Sequence[str], user: str | None = None, **more: Any) -> wire.ScoredList:
        """Put candidates into order for a person."""
        given = {"candidates": list(candidates), "user": user, **more}
        return self.send(Calls.ask("rank", wire.RankIn, wire.ScoredList, given))

    def search(self, query: str, **more: Any) -> wire.ScoredList:
        """Find items by words."""
        return self.send(Calls.ask("search", wire.SearchIn, wire.ScoredList, {"query": query, **more}))

    def explain(self, item: str, user: str | None = None, **more: Any) -> wire.Explained:
        """Ask why an item suits a person."""
        return self.send(Calls.ask("explain", wire.ExplainIn, wire.Explained, {"item": item, "user": user, **more}))

    def profile(self, user: str) -> wire.Profile:
        """Return what is known of a person, in short."""
        return self.send(Calls.profile(user))

    def export(self, user: str) -> dict[str, Any]:
        """Return everything that is held about a person."""
        return self.send(Calls.export(user))

    def erase(self, user: str) -> wire.Erased:
        """Erase a person."""
        return self.send(Calls.erase(user))

    def models(self) -> wire.ModelList:
        """List published models."""
        return self.send(Calls.models())

    def publish(self, version: str, bundle: str, *, activate: bool = False) -> wire.ModelOut:
        """Publish a bundle that stands in the service's models folder."""
        return self.send(Calls.publish(version, bundle, activate))

    def drift(self, days: float = 7.0) -> dict[str, Any]:
        """Say how far the last days are from the days before, and from what the active model learnt from."""
        return self.send(Calls.drift(days))

    def activate(self, version: str) -> wire.ModelOut:
        """Make a model the one that answers."""
        return self.send(Calls.activate(version))

    def roll_back(self) -> wire.ModelOut:
        """Return to the model that was active before."""
        return self.send(Calls.roll_back())

    def experiments(self) -> wire.ExperimentList:
        """List experiments, newest first."""
        return self.send(Calls.experiments())

    def make_experiment(self, name: str, spec: Mapping[str, Any]) -> wire.ExperimentOut:
        """Make an experiment (keys of :class:`~palate.serve.experiments.live.ExperimentSpec`); it begins when it is started."""
        return self.send(Calls.make_experiment(name, spec))

    def start_experiment(self, name: str) -> wire.ExperimentOut:
        """Start an experiment."""
        return self.send(Calls.turn_experiment(name, "start"))

    def stop_experiment(self, name: str) -> wire.ExperimentOut:
        """Stop an experiment; it can't be started again."""
        return self.send(Calls.turn_experiment(name, "stop"))

    def read_experiment(self, name: str) -> dict[str, Any]:
        """Return what may be concluded about an experiment now."""
        return self.send(Calls.read_experiment(name))

    def judge(self, pipeline: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Estimate from the log what another pipeline would have earned (keys of :class:`~palate.serve.wire.JudgeIn`)."""
        return self.send(Calls.judge(pipeline, more))

    def ready(self) -> wire.Ready:
        """Say whether the service can answer."""
        return self.send(Calls.ready())
