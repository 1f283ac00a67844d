"""Errors on the wire: the caller's faults are told in full, the service's own go to the log and not out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from palate import errors as core
from palate.serve import errors as serving
from palate.serve.http.problems import add_to

PLACE = "/srv/secret/models/ease-1"
CALLERS = [
    (core.DataError, 422, "invalid"),
    (core.LeakError, 422, "invalid"),
    (core.ConfigError, 422, "invalid"),
    (core.UnsupportedError, 422, "unsupported"),
    (serving.NotFound, 404, "not_found"),
    (serving.ConflictError, 409, "conflict"),
    (serving.ErasedMeanwhile, 409, "conflict"),
]
OWN = [
    (core.PalateError, 500, "internal"),
    (core.TrainingError, 500, "internal"),
    (core.NonConformingError, 500, "internal"),
    (core.BundleError, 500, "model"),
    (core.NotFittedError, 500, "model"),
    (serving.SchemaError, 500, "internal"),
    (core.MissingExtraError, 501, "not_installed"),
    (serving.StoreError, 503, "unavailable"),
    (serving.Unavailable, 503, "unavailable"),
    (serving.BusyError, 503, "busy"),
]


def answered(error: Exception) -> Any:
    """Return the response to a request that meets an error."""
    app = FastAPI()
    add_to(app)

    @app.get("/")
    def meet() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False).get("/")


@pytest.mark.parametrize(("kind", "status", "code"), CALLERS)
def test_what_the_caller_did_is_told_in_full(kind: type[core.PalateError], status: int, code: str) -> None:
    response = answered(kind("it is wrong.", where="events.0.time", value=-1, remedy="send another"))
    assert response.status_code == status
    assert response.json() == {
        "code": code,
        "what": "it is wrong.",
        "where": "events.0.time",
        "value": "-1",
        "remedy": "send another",
        "request": "-",
    }


@pytest.mark.parametrize("place", [PLACE, "C:\\models\\ease", "\\\\server\\share", "postgresql://u:secret@host/name"])
def test_no_place_on_the_machine_goes_out_with_it(place: str, caplog: pytest.LogCaptureFixture) -> None:
    response = answered(core.UnsupportedError("it can't.", where=place))
    assert response.status_code == 422 and "where" not in response.json()
    assert place in caplog.text


@pytest.mark.parametrize(("kind", "status", "code"), OWN)
def test_the_services_own_trouble_stays_inside(
    kind: type[core.PalateError], status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "palate.serve"):
        response = answered(kind("it is broken.", where=PLACE, value=PLACE, remedy="mend it"))
    assert response.status_code == status
    said = response.json()
    assert said["code"] == code and PLACE not in response.text and {"where", "value"}.isdisjoint(said)
    assert PLACE in caplog.text and "it is broken." in caplog.text
    if status == 500:
        assert "broken" not in response.text and "log" in said["remedy"]
    else:
        assert said["what"] == "it is broken." and said["remedy"] == "mend it"
    assert ("retry-after" in response.headers) == (status == 503)


def test_every_error_of_the_core_and_the_store_has_a_case() -> None:
    tried = {kind for kind, _, _ in CALLERS + OWN}
    kinds = [
        kind
        for module in (core, serving)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, core.PalateError)
    ]
    assert set(kinds) == tried
