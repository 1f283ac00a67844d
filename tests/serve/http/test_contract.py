"""The service keeps its OpenAPI document: generated requests find no fault, no undocumented status, no odd answer."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import FlakyFailure, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from palate.serve.settings import ServiceSettings

EXAMPLES = int(os.environ.get("PALATE_FUZZ", "15"))
#: Limits that a JSON schema can't state, as the service words them: a request that fits the schema may be refused for one.
UNSTATED = (
    "a number beyond 64 bits",  # in free objects (context, attributes), whose numbers the schema leaves open
    "nested too deeply",  # free objects again: their depth
    "too large",  # free objects (their bytes) and k: both limits are settings of the server
    "a NUL or a broken character",  # in texts: patterns speak of the whole text, and half of a surrogate pair is no character
    "Input should be a valid integer",  # 5.0 is an integer to JSON Schema; the service wants 5
)
#: Fields in a language of its own, and operations about a free object whose keys depend on its kind: what they mean is checked.
LANGUAGES, MEANINGS = {"filter"}, {("post", "/v1/experiments"), ("post", "/v1/experiments/offpolicy")}


def beyond_schema(case: Any, response: Any) -> bool:
    """Say whether a request was refused for what the schema can't state; any other that fits the schema must be accepted."""
    if response.status_code != 422:
        return False
    problem = response.json()
    if (case.method.lower(), case.operation.path) in MEANINGS or problem.get("where") in LANGUAGES:
        return True
    if problem["code"] == "unsupported" or "\\u0000" in json.dumps(case.body, default=str):
        return True  # what the model of the day can't do; a NUL, whose complaint is of another kind inside a union
    return any(limit in problem["what"] for limit in UNSTATED)


def loose_query(case: Any) -> bool:
    """Say whether a query has parameters that the operation hasn't (passed over) or has one twice (the last counts)."""
    known, query = {parameter.name for parameter in case.operation.query}, case.query or {}
    return not set(query) <= known or any(isinstance(value, list | dict) for value in query.values())


def excluded_from(case: Any, response: Any) -> list[Any]:
    """Return the checks that don't hold for a request and its answer."""
    fitting = [positive_data_acceptance] if beyond_schema(case, response) else []
    return fitting + ([negative_data_rejection] if loose_query(case) else [])


@pytest.fixture
def patient(open_live: Any, tmp_path: Path) -> Any:
    """A service whose limits of rates nothing here meets: they would hide what comes behind them."""
    rates = {"requests_per_second": 1e6, "burst": 10**6, "wrong_keys": 10**6, "wrong_keys_per_minute": 1e6}
    yield from open_live(tmp_path, ServiceSettings().replace(server=rates))


def ask(operation: Any, mode: GenerationMode, headers: dict[str, str], count: Counter[str]) -> str | None:
    """Send generated requests of an operation, count them by kind of answer, and return what was wrong."""
    examples = EXAMPLES if mode is GenerationMode.POSITIVE else -(-EXAMPLES // 3)

    @seed(1)
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        response = case.call(headers=headers)
        excluded = excluded_from(case, response)
        beyond = ["beyond the schema"] * (positive_data_acceptance in excluded)
        count.update(["cases", mode.value, f"{response.status_code // 100}xx", *beyond])
        case.validate_response(response, headers=headers, excluded_checks=excluded)

    try:
        fuzz()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be sent that is right"
    except (Exception, FailureGroup) as error:
        if isinstance(error, FlakyFailure) and error.split(RecursionError)[1] is None:
            return None  # making a request failed, deep inside of the generator; nothing was sent
        count["failures"] += 1
        return str(error)
    return None


def test_generated_requests(patient: Any) -> None:
    """Requests that fit the schema, and a third as many that don't.

    ``PALATE_FUZZ`` says how many; ``PALATE_FUZZ_COUNTS`` names a file for the counts by operation.
    """
    schema = schemathesis.openapi.from_asgi("/openapi.json", patient.client.app)
    headers = {"Authorization": f"Bearer {patient.keys['admin']}"}
    wrong: list[str] = []
    counts: dict[str, Counter[str]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        name = f"{operation.method.upper()} {operation.path}"
        count = counts.setdefault(name, Counter(failures=0))
        for mode in GenerationMode:
            error = ask(operation, mode, headers, count)
            if error is not None:
                wrong.append(f"{name}, {mode.value}: {error}")
    if "PALATE_FUZZ_COUNTS" in os.environ:
        Path(os.environ["PALATE_FUZZ_COUNTS"]).write_text(json.dumps(counts), encoding="utf-8")
    assert not wrong, "\n\n".join(wrong)
    assert sum(count["cases"] for count in counts.values()) >= EXAMPLES * 10
    reached = [name for name, count in counts.items() if count["2xx"]]
    assert len(reached) > len(counts) / 2, reached


def test_the_document_is_openapi_3_1_and_every_route_states_its_errors(live_shared: Any) -> None:
    document = live_shared.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), (path, method)
            if path not in ("/v1/health", "/v1/ready"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (path, method)
                assert operation["security"], (path, method)
