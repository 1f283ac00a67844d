"""The client of the service for asynchronous applications, with the methods of the other one, awaited.

Such as::

    async with AsyncClient("http://127.0.0.1:8765", key="plt_…") as palate:
        slate = await palate.recommend(user="ann", k=5)

See :mod:`palate.serve.clients.client` for what is sent again, and for errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from palate.serve import wire
from palate.serve.clients.calls import Call, Calls
from palate.serve.clients.client import ClientBase

A = TypeVar("A")


class AsyncClient(ClientBase):
    """Client of a service (see the module's text)."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0, retries: int = 3) -> None:
        super().__init__(url, key, timeout=timeout, retries=retries)
        self._http: Any = self._httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def send(self, call: Call[A]) -> A:
        """Send a request, again where that may help, and return its answer."""
        for attempt in range(self.retries + 1):
            response, lost = None, None
            try:
                response = await self._http.request(call.method, call.path, json=call.body, params=call.params)
            except self._httpx.TransportError as error:
                lost = error
            wait = self._wait(response, attempt)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return self._finish(call, response, lost)

    async def add_events(self, events: Sequence[Mapping[str, Any]]) -> wire.EventsKept:
        """Send events (keys of :class:`~palate.serve.wire.EventIn`): all are kept, or none."""
        return await self.send(Calls.add_events(events))

    async def feedback(self, slate: str, item: str, kind: str = "click", **more: Any) -> wire.FeedbackKept:
        """Say what a person made of an item in a slate."""
        return await self.send(Calls.feedback(slate, item, kind, more))

    async def put_items(self, items: Sequence[Mapping[str, Any]]) -> wire.Kept:
        """Make or replace items (keys of :class:`~palate.serve.wire.ItemIn`)."""
        return await self.send(Calls.put_items(items))

    async def item(self, item: str) -> wire.ItemOut:
        """Return an item."""
        return await self.send(Calls.item(item))

    async def items(self, after: str | None = None, limit: int = 100) -> wire.ItemPage:
        """Return a page of items."""
        return await self.send(Calls.items(after, limit))

    async def delete_item(self, item: str) -> wire.Kept:
        """Delete an item."""
        return await self.send(Calls.delete_item(item))

    async def put_users(self, users: Sequence[Mapping[str, Any]]) -> wire.Kept:
        """Make or replace users."""
        return await self.send(Calls.put_users(users))

    async def user(self, user: str) -> wire.UserOut:
        """Return a user."""
        return await self.send(Calls.user(user))

    async def delete_user(self, user: str) -> wire.Kept:
        """Delete a user's attributes; what the person did stays (:meth:`erase` takes all)."""
        return await self.send(Calls.delete_user(user))

    async def recommend(self, user: str | None = None, **more: Any) -> wire.Slate:
        """Ask for a slate (keys of :class:`~palate.serve.wire.RecommendIn`)."""
        return await self.send(Calls.ask("recommendations", wire.RecommendIn, wire.Slate, {"user": user, **more}))

    async def similar(self, items: Sequence[str], **more: Any) -> wire.ScoredList:
        """Ask for items like one or several."""
        return await self.send(Calls.ask("similar", wire.SimilarIn, wire.ScoredList, {"items": list(items), **more}))

    async def rank(self, candidates: Sequence[str], user: str | None = None, **more: Any) -> wire.ScoredList:
        """Put candidates into order for a person."""
        given = {"candidates": list(candidates), "user": user, **more}
        return await self.send(Calls.ask("rank", wire.RankIn, wire.ScoredList, given))

    async def search(self, query: str, **more: Any) -> wire.ScoredList:
        """Find items by words."""
        return await self.send(Calls.ask("search", wire.SearchIn, wire.ScoredList, {"query": query, **more}))

    async def explain(self, item: str, user: str | None = None, **more: Any) -> wire.Explained:
        """Ask why an item suits a person."""
        return await self.send(Calls.ask("explain", wire.ExplainIn, wire.Explained, {"item": item, "user": user, **more}))

    async def profile(self, user: str) -> wire.Profile:
        """Return what is known of a person, in short."""
        return await self.send(Calls.profile(user))

    async def export(self, user: str) -> dict[str, Any]:
        """Return everything that is held about a person."""
        return await self.send(Calls.export(user))

    async def erase(self, user: str) -> wire.Erased:
        """Erase a person."""
        return await self.send(Calls.erase(user))

    async def models(self) -> wire.ModelList:
        """List published models."""
        return await self.send(Calls.models())

    async def publish(self, version: str, bundle: str, *, activate: bool = False) -> wire.ModelOut:
        """Publish a bundle that stands in the service's models folder."""
        return await self.send(Calls.publish(version, bundle, activate))

    async def drift(self, days: float = 7.0) -> dict[str, Any]:
        """Say how far the last days are from the days before, and from what the active model learnt from."""
        return await self.send(Calls.drift(days))

    async def activate(self, version: str) -> wire.ModelOut:
        """Make a model the one that answers."""
        return await self.send(Calls.activate(version))

    async def roll_back(self) -> wire.ModelOut:
        """Return to the model that was active before."""
        return await self.send(Calls.roll_back())

    async def experiments(self) -> wire.ExperimentList:
        """List experiments, newest first."""
        return await self.send(Calls.experiments())

    async def make_experiment(self, name: str, spec: Mapping[str, Any]) -> wire.ExperimentOut:
        """Make an experiment (keys of :class:`~palate.serve.experiments.live.ExperimentSpec`); it begins when it is started."""
        return await self.send(Calls.make_experiment(name, spec))

    async def start_experiment(self, name: str) -> wire.ExperimentOut:
        """Start an experiment."""
        return await self.send(Calls.turn_experiment(name, "start"))

    async def stop_experiment(self, name: str) -> wire.ExperimentOut:
        """Stop an experiment; it can't be started again."""
        return await self.send(Calls.turn_experiment(name, "stop"))

    async def read_experiment(self, name: str) -> dict[str, Any]:
        """Return what may be concluded about an experiment now."""
        return await self.send(Calls.read_experiment(name))

    async def judge(self, pipeline: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Estimate from the log what another pipeline would have earned (keys of :class:`~palate.serve.wire.JudgeIn`)."""
        return await self.send(Calls.judge(pipeline, more))

    async def ready(self) -> wire.Ready:
        """Say whether the service can answer."""
        return await self.send(Calls.ready())
