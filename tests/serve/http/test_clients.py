"""The typed clients keep to the OpenAPI document, in each request and each answer; and both work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest
from jsonschema import Draft202012Validator

from palate.serve import wire
from palate.serve.clients.async_client import AsyncClient
from palate.serve.clients.calls import Calls
from palate.serve.clients.client import Client, ServiceError
from palate.serve.settings import ServiceSettings

SPEC = {"variants": [{"name": "a"}, {"name": "b"}], "metrics": [{"name": "m", "kind": "events"}], "planned": 10}
EXPLORING = ServiceSettings().replace(pipeline={"explore": {"kind": "epsilon", "epsilon": 0.5}})


class Contract:
    """The document, and what a request and its answer must be by it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.routes = [
            (re.compile("^" + re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(path)) + "$"), path) for path in document["paths"]
        ]
        self.met: set[tuple[str, str]] = set()

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Complain about whatever is not as the document says."""
        raw = request.url.raw_path.decode().partition("?")[0]
        fitting = [path for pattern, path in self.routes if pattern.match(raw)]
        plain = [path for path in fitting if "{" not in path] or fitting
        assert len(plain) == 1, (raw, fitting)
        method = request.method.lower()
        operation = self.document["paths"][plain[0]].get(method)
        assert operation is not None, (method, plain[0])
        self.met.add((method, plain[0]))
        self._check_parameters(operation, request)
        if request.content:
            self._check(operation["requestBody"]["content"]["application/json"]["schema"], request.read(), "body")
        else:
            assert not operation.get("requestBody", {}).get("required"), "a body is wanted"
        found = operation["responses"].get(str(response.status_code))
        assert found is not None, (plain[0], response.status_code)
        self._check(found["content"]["application/json"]["schema"], response.content, plain[0])

    def _check_parameters(self, operation: dict[str, Any], request: httpx.Request) -> None:
        known = {p["name"]: p for p in operation.get("parameters", ()) if p["in"] == "query"}
        given = dict(request.url.params)
        assert set(given) <= set(known)
        assert {name for name, p in known.items() if p.get("required")} <= set(given)

    def _check(self, schema: dict[str, Any], content: bytes, where: str) -> None:
        whole = {**schema, "components": self.document["components"]}
        wrong = list(Draft202012Validator(whole).iter_errors(httpx.Response(200, content=content).json()))
        assert not wrong, (where, wrong[0].message, list(wrong[0].absolute_path))


@pytest.fixture
def served(tmp_path: Path, open_live: Any) -> Iterator[Any]:
    """A service that explores, so that there is something to judge."""
    yield from open_live(tmp_path, EXPLORING)


def _script(models: list[str]) -> list[tuple[str, Callable[[Any], Any], type[Any]]]:
    """Return a call of every method of a client, with the kind of its answer; ids hold what paths are made of."""
    odd = "a/b ü?%2F"
    return [
        ("ready", lambda c: c.ready(), wire.Ready),
        ("put_items", lambda c: c.put_items([{"id": odd, "title": "odd", "price": 3}]), wire.Kept),
        ("item", lambda c: c.item(odd), wire.ItemOut),
        ("items", lambda c: c.items(limit=5), wire.ItemPage),
        ("items", lambda c: c.items("i1", 2), wire.ItemPage),
        ("put_users", lambda c: c.put_users([{"id": odd, "attributes": {"age": 30}}]), wire.Kept),
        ("user", lambda c: c.user(odd), wire.UserOut),
        ("delete_user", lambda c: c.delete_user(odd), wire.Kept),
        ("add_events", lambda c: c.add_events([{"user": odd, "item": "i1"}, {"user": odd, "item": "i3"}]), wire.EventsKept),
        ("recommend", lambda c: c.recommend(odd, k=2, trace=True, why=True), wire.Slate),
        ("recommend", lambda c: c.recommend(k=2, filter={"not": {"field": "price", "op": "exists"}}), wire.Slate),
        ("feedback", lambda c: c.feedback("known", "i2"), wire.FeedbackKept),
        ("similar", lambda c: c.similar(["i1"], k=3), wire.ScoredList),
        ("rank", lambda c: c.rank(["i1", "i2", "unheard of"], odd), wire.ScoredList),
        ("search", lambda c: c.search("garden", user=odd), wire.ScoredList),
        ("explain", lambda c: c.explain("i5", odd), wire.Explained),
        ("profile", lambda c: c.profile(odd), wire.Profile),
        ("export", lambda c: c.export(odd), dict),
        ("models", lambda c: c.models(), wire.ModelList),
        ("publish", lambda c: c.publish("again", models[0]), wire.ModelOut),
        ("activate", lambda c: c.activate("again"), wire.ModelOut),
        ("roll_back", lambda c: c.roll_back(), wire.ModelOut),
        ("drift", lambda c: c.drift(days=100), dict),
        ("make_experiment", lambda c: c.make_experiment("e", SPEC), wire.ExperimentOut),
        ("start_experiment", lambda c: c.start_experiment("e"), wire.ExperimentOut),
        ("recommend", lambda c: c.recommend("u1", k=2), wire.Slate),
        ("experiments", lambda c: c.experiments(), wire.ExperimentList),
        ("stop_experiment", lambda c: c.stop_experiment("e"), wire.ExperimentOut),
        ("judge", lambda c: c.judge({"explore": {"kind": "none"}}, since=0.0), dict),
        ("erase", lambda c: c.erase(odd), wire.Erased),
        ("delete_item", lambda c: c.delete_item(odd), wire.Kept),
    ]


def _prepare(live: Any) -> list[str]:
    """Keep a slate to give feedback on; return the folders of bundles."""
    from palate.serve.store import Shown, Slate

    live.store.add_slate(Slate("known", (Shown("i2", 1, 1.0),), user="u1", policy="p"))
    return [Path(row.path).name for row in live.store.models()]


def _methods(kind: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")} - {"close", "send"}


def _record(calls: list[tuple[httpx.Request, httpx.Response]], transport: Any) -> Any:
    """Return a transport that keeps what went over it."""

    class Kept(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await transport.handle_async_request(request)
            await response.aread()
            calls.append((request, response))
            return response

    return Kept()


def test_every_method_of_the_async_client_keeps_to_the_document(served: Any) -> None:
    contract = Contract(served.client.get("/openapi.json").json())
    script, calls = _script(_prepare(served)), []
    assert {name for name, _, _ in script} == _methods(AsyncClient) - {"read_experiment"}

    async def run() -> None:
        async with AsyncClient("http://served", key=served.keys["admin"], retries=0) as client:
            await client._http.aclose()
            transport = _record(calls, httpx.ASGITransport(served.client.app))
            client._http = httpx.AsyncClient(transport=transport, **client._options)
            for name, call, kind in script:
                assert isinstance(await call(client), kind), name
            read = await client.read_experiment("e")
            assert read["experiment"] == "e" and read["units"] == 1
            with pytest.raises(ServiceError) as told:
                await client.item("nothing of this name")
            assert (told.value.status, told.value.code) == (404, "not_found")

    served.client.portal.call(run)
    for request, response in calls:
        contract.check(request, response)
    public = {(method, path) for path, methods in contract.document["paths"].items() for method in methods}
    assert public - contract.met == {("get", "/v1/health"), ("get", "/v1/metrics")}


def test_every_method_of_the_client_works(served: Any) -> None:
    script = _script(_prepare(served))
    with Client("http://testserver", key=served.keys["admin"], retries=0) as client:
        client._http.close()
        client._http = served.client
        served.client.headers.update(client._options["headers"])
        for name, call, kind in script:
            assert isinstance(call(client), kind), name
        assert client.read_experiment("e")["units"] == 1


def test_the_clients_have_the_same_methods() -> None:
    assert _methods(Client) == _methods(AsyncClient)
    for name in _methods(Client):
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name)), name
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name))


def test_a_wrong_path_or_body_would_be_noticed(live_shared: Any) -> None:
    contract = Contract(live_shared.client.get("/openapi.json").json())
    good = httpx.Response(200, json={"kept": 1})
    contract.check(httpx.Request("DELETE", "http://x/v1/items/a%2Fb"), good)
    for request, response in (
        (httpx.Request("DELETE", "http://x/v1/items/a/b"), good),
        (httpx.Request("POST", "http://x/v1/items/a"), good),
        (httpx.Request("DELETE", "http://x/v1/items/a?x=1"), good),
        (httpx.Request("DELETE", "http://x/v1/items/a"), httpx.Response(200, json={"kept": "one"})),
        (httpx.Request("PUT", "http://x/v1/items", json={"items": []}), good),
        (httpx.Request("PUT", "http://x/v1/items"), good),
    ):
        with pytest.raises(AssertionError):
            contract.check(request, response)


def test_ids_are_one_part_of_a_path() -> None:
    makers: list[Callable[[str], Any]] = [
        Calls.item,
        Calls.delete_item,
        Calls.user,
        Calls.delete_user,
        Calls.profile,
        Calls.export,
        Calls.erase,
        Calls.activate,
        partial(Calls.turn_experiment, act="start"),
        Calls.read_experiment,
    ]
    for make in makers:
        plain, odd = make("ID").path.split("/"), make("a/b?ü%2F").path.split("/")
        assert len(plain) == len(odd) and unquote(odd[plain.index("ID")]) == "a/b?ü%2F"


def test_busy_services_are_asked_again(live_shared: Any) -> None:
    answers = [httpx.Response(503, json={"code": "busy", "what": "busy.", "request": "-"}, headers={"Retry-After": "0"})] * 2
    answers.append(httpx.Response(200, json={"kept": 1}))
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return answers[len(asked) - 1]

    async def run() -> wire.Kept:
        async with AsyncClient("http://served", retries=2) as client:
            client._http = httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://served")
            return await client.delete_item("x")

    assert anyio.run(run).kept == 1 and len(asked) == 3
