"""Any endpoint that speaks the OpenAI protocol: hosted services, vLLM, Ollama (``/v1``), llama.cpp's server.

The ``openai`` package is the client: it follows the protocol's changes, and reads its streams and errors; plain HTTP here
would be a second, worse copy of that. Its own retries are off: those of :mod:`palate.language.managed` count against budgets.
A key is read from the environment, never from an argument that a log could show, and ``OPENAI_API_KEY`` goes to OpenAI alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import numpy as np

from palate.errors import ConfigError, UnsupportedError
from palate.extras import require
from palate.language.failures import AnswerTimeoutError, LanguageModelError, TransientError
from palate.language.model import Answer, Call, LanguageModel, Settings

#: The host to which ``OPENAI_API_KEY`` belongs.
OPENAI = "api.openai.com"
#: Statuses of HTTP after which a later try may succeed.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class EndpointModel(LanguageModel):
    """A model behind an OpenAI-compatible address.

    Parameters
    ----------
    base_url
        The address, with ``/v1`` where the server wants it.
    model
        The model's name there.
    key
        Name of the environment variable that holds the key (default: ``OPENAI_API_KEY`` for OpenAI, else
        ``PALATE_LM_KEY``; a server without keys needs none).
    structured
        How the server is asked for JSON: ``"schema"`` (constrained), ``"object"`` (JSON of any form) or ``"none"``; answers
        are validated in every case.
    max_tokens_field
        The field's name there.
    revision
        Anything that tells apart models of one name; change it to leave the cache's old answers behind.
    extra
        More fields of the body, such as ``{"top_k": 20}``.
    embedding_model
        Name of the model that gives vectors, where the server has one.
    settings, timeout
        Of calls that name none.
    """

    kind = "endpoint"

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str | None = None,
        structured: Literal["schema", "object", "none"] = "schema",
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        revision: str = "",
        extra: Mapping[str, Any] | None = None,
        embedding_model: str | None = None,
        settings: Settings | None = None,
        timeout: float = 120.0,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError("not an address of HTTP.", where="base_url", value=base_url, remedy="http(s)://HOST[:PORT]/v1")
        if not model:
            raise ConfigError("a model's name is needed.", where="model")
        self._openai = require("openai", "A language model behind an address")
        self.base_url, self.model, self.revision = base_url.rstrip("/"), model, revision
        self.structured, self.extra, self._field = structured, dict(extra or {}), max_tokens_field
        self.embedding_model = embedding_model
        self.settings, self.timeout = settings or Settings(), timeout
        self.constrains = structured == "schema"
        variable = key or ("OPENAI_API_KEY" if parts.hostname == OPENAI else "PALATE_LM_KEY")
        secret = os.environ.get(variable)
        if secret is None and (key is not None or parts.hostname == OPENAI):
            raise ConfigError("the key is not set.", where=f"environment variable {variable}", remedy=f"export {variable}=…")
        self._client = self._openai.OpenAI(
            base_url=self.base_url, api_key=secret or "none", organization="", project="", max_retries=0, timeout=timeout
        )

    @property
    def name(self) -> str:
        """Model and host."""
        return f"{self.model} at {urlsplit(self.base_url).netloc}"

    @property
    def fingerprint(self) -> str:
        """Address, name, revision and fields: an endpoint does not tell more of its weights."""
        return f"endpoint:{self.base_url}#{self.model}@{self.revision}:{self.structured}:{sorted(self.extra.items())}"

    def answer(self, call: Call) -> Answer:
        """Answer a call over HTTP."""
        start = time.monotonic()
        try:
            reply = self._route(call)(**self._body(call), timeout=call.timeout)
        except self._openai.OpenAIError as error:
            self._fail(error, call.timeout)
        if not getattr(reply, "choices", None):
            raise TransientError("the endpoint's reply holds no answer.", where=self.name, value=str(reply)[:200])
        choice = reply.choices[0]
        text = (choice.text if call.prompt is not None else choice.message.content) or ""
        return self._whole(call, text, choice.finish_reason or "stop", reply.usage, time.monotonic() - start)

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield an answer as the server sends it."""
        start, parts, finish, used = time.monotonic(), [], "stop", None
        asked = {"stream": True, "stream_options": {"include_usage": True}, "timeout": call.timeout}
        try:
            with self._route(call)(**self._body(call), **asked) as events:
                for event in events:
                    if time.monotonic() - start > call.timeout:
                        raise self._late(call.timeout)
                    used = event.usage or used
                    for choice in event.choices[:1]:
                        finish = choice.finish_reason or finish
                        piece = choice.text if call.prompt is not None else choice.delta.content
                        if piece:
                            parts.append(piece)
                            yield piece
        except self._openai.OpenAIError as error:
            self._fail(error, call.timeout)
        yield self._whole(call, "".join(parts), finish, used, time.monotonic() - start)

    def _whole(self, call: Call, text: str, finish: str, used: Any, seconds: float) -> Answer:
        """Return an answer with the server's counts of tokens, or estimates where it gives none."""
        tokens_in = used.prompt_tokens if used else self.count_tokens(call.text)
        return Answer(text, finish, tokens_in, used.completion_tokens if used else self.count_tokens(text), seconds)

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]`` of the server's embedding model, as it gives them."""
        if self.embedding_model is None:
            raise UnsupportedError(
                "this endpoint has no embedding model.",
                where=self.name,
                remedy="name one: embedding_model=…, or use a local model",
            )
        try:
            reply = self._client.embeddings.create(model=self.embedding_model, input=list(texts), encoding_format="float")
        except self._openai.OpenAIError as error:
            self._fail(error, self.timeout)
        rows = sorted(reply.data, key=lambda row: row.index)
        return np.array([row.embedding for row in rows], np.float32)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _route(self, call: Call) -> Any:
        return (self._client.completions if call.prompt is not None else self._client.chat.completions).create

    def _body(self, call: Call) -> dict[str, Any]:
        s = call.settings
        body: dict[str, Any] = {"model": self.model, self._field: s.max_tokens, "temperature": s.temperature, "top_p": s.top_p}
        body["seed"] = s.seed
        if s.stop:
            body["stop"] = list(s.stop)
        if call.prompt is not None:
            body["prompt"] = call.prompt
        else:
            body["messages"] = [m.to_dict() for m in call.messages]
        if call.schema is not None and self.structured != "none":
            body["response_format"] = {"type": "json_object"}
            if self.structured == "schema":
                wanted = {"name": "answer", "schema": call.schema.document}
                body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        if self.extra:
            body["extra_body"] = self.extra
        return body

    def _late(self, timeout: float) -> AnswerTimeoutError:
        remedy = "raise the timeout, or lower max_tokens"
        return AnswerTimeoutError(f"no whole answer in {timeout:g} s.", where=self.name, remedy=remedy)

    def _fail(self, error: Exception, timeout: float) -> NoReturn:
        """Raise an error of the client as ours."""
        o = self._openai
        if isinstance(error, o.APITimeoutError):
            raise self._late(timeout) from None
        if isinstance(error, o.APIConnectionError):
            remedy = "is the server running, and the address right?"
            raise TransientError("the endpoint can't be reached.", where=self.base_url, remedy=remedy) from None
        status = getattr(error, "status_code", None)
        told = str(getattr(error, "message", error))[:300]
        if status in PASSING or status is None:
            raise TransientError(f"the endpoint failed: {told}", where=self.name, retry_after=_retry_after(error)) from None
        advice = {
            400: "if response_format is what it refuses, set structured to 'object' or 'none'",
            401: "set the key in the environment: PALATE_LM_KEY, or OPENAI_API_KEY for OpenAI",
            403: "the key may not use this model",
            404: "check the address (often …/v1) and the model's name",
        }
        raise LanguageModelError(
            f"the endpoint refused the call: {told}", where=self.name, value=status, remedy=advice.get(status)
        ) from None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds that the server asks to wait, where it says so in seconds."""
    response = getattr(error, "response", None)
    asked = None if response is None else response.headers.get("retry-after")
    try:
        return None if asked is None else max(0.0, float(asked))
    except ValueError:
        return None
