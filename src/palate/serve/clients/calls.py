"""The requests of the service's clients: how each is sent, and what its answer is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from palate.errors import ConfigError
from palate.serve import wire

A = TypeVar("A")


@dataclass(frozen=True)
class Call(Generic[A]):
    """One request: how it is sent, and what its answer is."""

    method: str
    path: str
    answer: type[A]
    body: Any = None
    params: Mapping[str, Any] | None = None


def _body(kind: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check a body here, so that a mistake is found before it travels."""
    try:
        made = kind.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{first['msg']}.", where=".".join(str(part) for part in first["loc"]), value=first.get("input")
        ) from None
    return made.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _part(id_: str) -> str:
    """Return an id as a part of a path."""
    return quote(id_, safe="")


def _named(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": uuid.uuid4().hex, **event}


class Calls:
    """Makes the requests of both clients."""

    @staticmethod
    def add_events(events: Sequence[Mapping[str, Any]]) -> Call[wire.EventsKept]:
        """Keep events, each with an id."""
        return Call("POST", "/v1/events", wire.EventsKept, _body(wire.EventBatch, {"events": [_named(e) for e in events]}))

    @staticmethod
    def feedback(slate: str, item: str, kind: str, more: Mapping[str, Any]) -> Call[wire.FeedbackKept]:
        """Keep feedback, with an id."""
        body = _body(wire.FeedbackIn, _named({"slate": slate, "item": item, "kind": kind, **more}))
        return Call("POST", "/v1/feedback", wire.FeedbackKept, body)

    @staticmethod
    def put_items(items: Sequence[Mapping[str, Any]]) -> Call[wire.Kept]:
        """Make or replace items."""
        return Call("PUT", "/v1/items", wire.Kept, _body(wire.ItemBatch, {"items": list(items)}))

    @staticmethod
    def item(item: str) -> Call[wire.ItemOut]:
        """Read an item."""
        return Call("GET", f"/v1/items/{_part(item)}", wire.ItemOut)

    @staticmethod
    def items(after: str | None, limit: int) -> Call[wire.ItemPage]:
        """Read a page of items."""
        params = {"limit": limit} | ({} if after is None else {"after": after})
        return Call("GET", "/v1/items", wire.ItemPage, params=params)

    @staticmethod
    def delete_item(item: str) -> Call[wire.Kept]:
        """Delete an item."""
        return Call("DELETE", f"/v1/items/{_part(item)}", wire.Kept)

    @staticmethod
    def put_users(users: Sequence[Mapping[str, Any]]) -> Call[wire.Kept]:
        """Make or replace users."""
        return Call("PUT", "/v1/users", wire.Kept, _body(wire.UserBatch, {"users": list(users)}))

    @staticmethod
    def user(user: str) -> Call[wire.UserOut]:
        """Read a user."""
        return Call("GET", f"/v1/users/{_part(user)}", wire.UserOut)

    @staticmethod
    def delete_user(user: str) -> Call[wire.Kept]:
        """Delete a user."""
        return Call("DELETE", f"/v1/users/{_part(user)}", wire.Kept)

    @staticmethod
    def ask(path: str, kind: type[BaseModel], answer: type[A], given: Mapping[str, Any]) -> Call[A]:
        """Ask a question."""
        return Call("POST", f"/v1/{path}", answer, _body(kind, given))

    @staticmethod
    def profile(user: str) -> Call[wire.Profile]:
        """Read a profile."""
        return Call("GET", f"/v1/profile/{_part(user)}", wire.Profile)

    @staticmethod
    def export(user: str) -> Call[dict]:
        """Read everything about a person."""
        return Call("GET", f"/v1/profile/{_part(user)}/export", dict)

    @staticmethod
    def erase(user: str) -> Call[wire.Erased]:
        """Erase a person."""
        return Call("DELETE", f"/v1/profile/{_part(user)}", wire.Erased)

    @staticmethod
    def models() -> Call[wire.ModelList]:
        """List models."""
        return Call("GET", "/v1/models", wire.ModelList)

    @staticmethod
    def publish(version: str, bundle: str, activate: bool) -> Call[wire.ModelOut]:
        """Publish a bundle."""
        body = _body(wire.PublishIn, {"version": version, "bundle": bundle, "activate": activate})
        return Call("POST", "/v1/models", wire.ModelOut, body)

    @staticmethod
    def drift(days: float) -> Call[dict]:
        """Read the report on drift."""
        return Call("GET", "/v1/models/drift", dict, params={"days": days})

    @staticmethod
    def activate(version: str) -> Call[wire.ModelOut]:
        """Activate a model."""
        return Call("POST", f"/v1/models/{_part(version)}/activate", wire.ModelOut)

    @staticmethod
    def roll_back() -> Call[wire.ModelOut]:
        """Roll back."""
        return Call("POST", "/v1/models/rollback", wire.ModelOut)

    @staticmethod
    def experiments() -> Call[wire.ExperimentList]:
        """List experiments."""
        return Call("GET", "/v1/experiments", wire.ExperimentList)

    @staticmethod
    def make_experiment(name: str, spec: Mapping[str, Any]) -> Call[wire.ExperimentOut]:
        """Make an experiment."""
        body = _body(wire.ExperimentIn, {"name": name, "spec": dict(spec)})
        return Call("POST", "/v1/experiments", wire.ExperimentOut, body)

    @staticmethod
    def turn_experiment(name: str, act: str) -> Call[wire.ExperimentOut]:
        """Start or stop an experiment."""
        return Call("POST", f"/v1/experiments/{_part(name)}/{act}", wire.ExperimentOut)

    @staticmethod
    def read_experiment(name: str) -> Call[dict]:
        """Read an experiment."""
        return Call("GET", f"/v1/experiments/{_part(name)}", dict)

    @staticmethod
    def judge(pipeline: Mapping[str, Any], more: Mapping[str, Any]) -> Call[dict]:
        """Judge a pipeline by the log."""
        body = _body(wire.JudgeIn, {"pipeline": dict(pipeline), **more})
        return Call("POST", "/v1/experiments/offpolicy", dict, body)

    @staticmethod
    def ready() -> Call[wire.Ready]:
        """Ask whether it is ready."""
        return Call("GET", "/v1/ready", wire.Ready)
