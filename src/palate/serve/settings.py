"""Settings of the service: ``palate.toml``, checked against these classes when it starts."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from palate.contracts.config import Config
from palate.errors import ConfigError, nearest
from palate.serve.pipeline.config import SOURCES, CapConfig, PipelineConfig


def _network(text: str) -> str:
    """Refuse what is neither an address nor a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"name an address or a network, such as 10.0.0.0/8 ({error})") from None
    return text


class StoreSettings(Config):
    """Where everything is kept."""

    url: str = Field("sqlite:///palate.db", description="a SQLite file, or its URL sqlite:///FILE, or postgresql://…")
    synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL", description="SQLite: FULL survives a power cut; NORMAL is faster and may lose the last moments in one"
    )
    retention_days: float | None = Field(None, gt=0, description="events and slates older than this are deleted (none: kept)")


class ServerSettings(Config):
    """The HTTP side."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8765, ge=0, le=65_535, description="port to listen on (0: any free one)")
    insecure_loopback: bool = Field(False, description="answer without an API key, on a loopback address only")
    console: bool = Field(True, description="serve the web console, where its extra is installed")
    max_body_bytes: int = Field(2 * 2**20, gt=0, description="larger bodies are refused (413)")
    max_batch: int = Field(1_000, gt=0, description="events or items in one request, at most")
    max_k: int = Field(200, gt=0, le=1_000, description="items in one answer, at most")
    requests_per_second: float = Field(500.0, gt=0, description="steady rate allowed to each key")
    burst: int = Field(1_000, gt=0, description="requests that a key may send at once")
    wrong_keys: int = Field(20, gt=0, description="wrong keys that an address may send at once; then it is told to wait (429)")
    wrong_keys_per_minute: float = Field(10.0, gt=0, description="steady rate of wrong keys allowed to each address")
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        (), description="addresses or networks of proxies before the service, whose X-Forwarded-For and -Proto are believed"
    )
    workers: int = Field(2, gt=0, le=64, description="threads that answer")
    allow_origins: tuple[str, ...] = Field((), description="web origins that may call from a browser (CORS); none by default")


class RetrievalSettings(Config):
    """How a model's item vectors are searched."""

    index: Literal["exact", "ann"] = Field(
        "exact", description="exact, or the approximate index of faiss, for catalogues where that is faster"
    )
    recall: float = Field(0.99, gt=0, le=1, description="share of the exact answer that the approximate index must find (ann)")


class SearchSettings(Config):
    """How words find items, and what items say is compared."""

    encoder: str = Field(
        "auto",
        description="what makes texts comparable by meaning: auto (static where it is installed, else tfidf), off (words "
        "alone), tfidf, static, minilm, minilm-onnx, bge, or the folder of a model",
    )
    least: float = Field(
        0.25, ge=0, le=1, description="likeness from which an item is found: 0 as unrelated texts, 1 the same text"
    )
    meaning: float = Field(0.5, ge=0, le=10, description="how much meaning counts in a search, beside words (1)")
    likeness: float = Field(0.2, ge=0, le=10, description="how much likeness to the best matches counts, by the active model")
    reading: float = Field(
        0.5, ge=0, le=10, description="how much an active model that reads words counts; it finds items, too"
    )


class ServiceSettings(Config):
    """Everything in ``palate.toml``."""

    store: StoreSettings = Field(StoreSettings(), description="where everything is kept")
    server: ServerSettings = Field(ServerSettings(), description="the HTTP side")
    retrieval: RetrievalSettings = Field(RetrievalSettings(), description="how a model's item vectors are searched")
    search: SearchSettings = Field(SearchSettings(), description="how words find items")
    pipeline: PipelineConfig = Field(PipelineConfig(), description="how an answer comes about")

    @classmethod
    def read(cls, path: str | Path) -> ServiceSettings:
        """Read a TOML file.

        Raises
        ------
        ConfigError
            If it can't be read, or holds an unknown key or a wrong value; place and remedy are named.
        """
        try:
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                "the settings can't be read.", where=path, value=error.strerror, remedy="check the path"
            ) from None
        except ValueError as error:
            raise ConfigError("the settings are not valid TOML.", where=path, value=str(error)) from None
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise _explained(error, path) from None


def _explained(error: ValidationError, path: str | Path) -> ConfigError:
    """Turn the first complaint into an error that names the key and the remedy."""
    first = error.errors()[0]
    loc = first["loc"]
    place = [part for at, part in enumerate(loc) if not (part in SOURCES and at and isinstance(loc[at - 1], int))]
    key = ".".join(str(part) for part in place)
    if first["type"] == "extra_forbidden":
        known = _fields(loc[:-1])
        advice = nearest(str(loc[-1]), known) if known else None
        return ConfigError(f"unknown key {key!r}.", where=path, remedy=advice)
    return ConfigError(f"{key!r} is wrong: {first['msg'].lower()}.", where=path, value=first["input"])


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are right at a place of the file."""
    at: type[Config] | None = ServiceSettings
    for part in place:
        if isinstance(part, int):
            continue
        if str(part) in SOURCES and at is None:
            at = SOURCES[str(part)]
            continue
        kind = None if at is None else at.model_fields[str(part)].annotation
        at = kind if isinstance(kind, type) and issubclass(kind, Config) else None
        if at is None and str(part) == "caps":
            at = CapConfig
    return [] if at is None else list(at.model_fields)
