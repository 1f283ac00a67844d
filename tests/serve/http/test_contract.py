"""The service keeps its OpenAPI document: generated requests find no fault, no undocumented status, no odd answer."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

import palate.serve.client as client_module
from palate.serve.client import Calls

EXAMPLES = int(os.environ.get("PALATE_FUZZ", "15"))


def test_generated_requests(live_shared: Any) -> None:
    """Limits of free objects (depth, bytes) and of ``k`` are no part of the schema: refusing them is a fair answer."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", live_shared.client.app)
    headers = {"Authorization": f"Bearer {live_shared.keys['admin']}"}
    wrong: list[str] = []
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def fuzz(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        try:
            fuzz()
        except Exception as error:
            wrong.append(f"{operation.method} {operation.path}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert tried >= EXAMPLES * 10


def test_the_document_is_openapi_3_1_and_every_route_states_its_errors(live_shared: Any) -> None:
    document = live_shared.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), (path, method)
            if path not in ("/v1/health", "/v1/ready", "/v1/metrics"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (path, method)
                assert operation["security"], (path, method)


def test_every_call_of_the_client_is_in_the_document(live_shared: Any) -> None:
    document = live_shared.client.get("/openapi.json").json()
    known = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    item = {"user": "u", "item": "i"}
    calls = [
        Calls.add_events([item]),
        Calls.feedback("s", "i", "click", {}),
        Calls.put_items([{"id": "i"}]),
        Calls.item("ID"),
        Calls.items(None, 10),
        Calls.delete_item("ID"),
        Calls.put_users([{"id": "u"}]),
        Calls.profile("ID"),
        Calls.export("ID"),
        Calls.erase("ID"),
        Calls.models(),
        Calls.activate("ID"),
        Calls.roll_back(),
        Calls.make_experiment("ID", {}),
        Calls.turn_experiment("ID", "start"),
        Calls.read_experiment("ID"),
        Calls.ready(),
    ]
    names = {name for name in vars(Calls) if not name.startswith("_")}
    assert len(calls) + 1 == len(names), "a call of the client is not tested here"
    patterns = {(method, path.split("{")[0]): (method, path) for method, path in known}
    for call in calls:
        plain = call.path.replace("ID", "{")
        assert (call.method, plain.split("{")[0]) in patterns, call
        if call.body is not None:
            json.dumps(call.body)


def test_the_clients_have_the_same_methods() -> None:
    from palate.serve.async_client import AsyncClient

    public = {name for name in dir(client_module.Client) if not name.startswith("_")}
    assert public == {name for name in dir(AsyncClient) if not name.startswith("_")}
