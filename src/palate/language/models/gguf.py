"""A GGUF file run by llama.cpp (``xllamacpp``) in this process.

The engine is a server inside: calls go to it directly; only token counts go through its port, on the loopback address behind a
random key. Three of its habits are changed, so that an answer depends on the call alone: prompts are read anew, not from what
earlier calls left behind (``reuse_prefix`` trades that for speed: the sums then come in another order); its hidden limits on
sampling (top 40, min-p) are off; and special tokens are only what the chat template writes (data must be cleaned of them:
:func:`palate.language.quoting.clean`). One thread fewer than the cores is the default: threads that spin at barriers beside
other work are slower by an order than one thread fewer.
"""

from __future__ import annotations

import hashlib
import json
import queue
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import ConfigError, DataError
from palate.extras import require
from palate.language.failures import AnswerTimeoutError, LanguageModelError
from palate.language.model import Answer, Call, LanguageModel, Settings
from palate.runtime import threads as usable_threads


class GGUFModel(LanguageModel):
    """A language model from a GGUF file.

    Parameters
    ----------
    path
        The file.
    context
        Tokens of prompt and answer together, at most.
    threads
        Threads of the engine (default: one fewer than Palate's, at least one).
    reuse_prefix
        Keep what was computed for the beginning that a prompt shares with the last one: faster, but the last bits, and with
        them now and then a word, depend on the calls before.
    lora
        A LoRA adapter in GGUF form, or ``None``.
    settings, timeout
        Of calls that name none.

    Raises
    ------
    DataError
        If the file is absent or no GGUF.
    """

    kind = "GGUF"
    constrains = True
    exact_tokens = True

    def __init__(
        self,
        path: str | Path,
        *,
        context: int = 4096,
        threads: int | None = None,
        reuse_prefix: bool = False,
        lora: str | Path | None = None,
        settings: Settings | None = None,
        timeout: float = 300.0,
    ) -> None:
        self.path, self.lora = _checked(path), None if lora is None else _checked(lora)
        if context < 64 or (threads is not None and threads < 1):
            raise ConfigError("context is from 64 tokens, threads from 1.", where="GGUFModel", value=(context, threads))
        self.context, self.threads = context, threads or max(1, usable_threads() - 1)
        self.reuse_prefix = reuse_prefix
        self.settings, self.timeout = settings or Settings(), timeout
        self._lock = threading.Lock()
        self._secret = secrets.token_hex(16)
        self._server: Any = self._load()
        self._counted = lru_cache(maxsize=4096)(self._count)

    def _load(self) -> Any:
        engine = require("xllamacpp", "A GGUF language model")
        p = engine.CommonParams()
        p.model.path = str(self.path)
        p.n_ctx, p.n_parallel, p.n_ubatch, p.n_batch = self.context, 1, min(self.context, 2048), self.context
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = self.threads
        p.hostnames, p.port, p.api_keys, p.ui = ["127.0.0.1"], 0, [self._secret], False
        p.verbosity, p.warmup = 0, False
        p.embedding, p.pooling_type = True, engine.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        if self.lora is not None:
            adapter = engine.CommonAdapterLoraInfo()
            adapter.path, adapter.scale = str(self.lora), 1.0
            p.lora_adapters = [adapter]
        try:
            return engine.Server(p)
        except RuntimeError as error:
            raise DataError(
                f"llama.cpp can't load the model: {error}", where=self.path, remedy="is it whole, and a chat model?"
            ) from None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name if self.lora is None else f"{self.path.name} + {self.lora.name}"

    @property
    def fingerprint(self) -> str:
        """Hash of the file (and of the adapter's)."""
        files = [self.path] if self.lora is None else [self.path, self.lora]
        return "gguf:" + "+".join(file_sha256(path) for path in files)

    def answer(self, call: Call) -> Answer:
        """Answer one call; calls from several threads take turns."""
        with self._lock:
            return _Reading(self, call).run()

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield an answer as it is written. Leaving the loop early stops the engine."""
        out: queue.Queue[str | Answer | Exception] = queue.Queue()
        reading = _Reading(self, call, out.put)

        def work() -> None:
            try:
                with self._lock:  # held by the writer, not by the reader: who reads may ask again meanwhile
                    out.put(reading.run())
            except Exception as error:
                out.put(error)

        worker = threading.Thread(target=work, name="palate-gguf", daemon=True)
        worker.start()
        try:
            while isinstance(piece := out.get(), str):
                yield piece
            if isinstance(piece, Exception):
                raise piece
            yield piece
        finally:
            reading.stopped = True
            worker.join()

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]``, the mean of the last hidden states over each text's tokens."""
        rows = []
        with self._lock:
            for text in texts:
                reply = self._engine.handle_embeddings({"input": [text], "embd_normalize": -1})
                if "error" in reply:
                    raise LanguageModelError(
                        reply["error"]["message"], where=self.name, remedy="shorten the text, or raise context"
                    )
                rows.append(reply["data"][0]["embedding"])
        return np.array(rows, np.float32)

    def count_tokens(self, text: str) -> int:
        """Return the exact number of tokens of a text (without those that the chat template adds)."""
        return self._counted(text)

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Return the tokens of a text; with ``special``, as a prompt is read: texts of special tokens become those."""
        reply = self._post("/tokenize", {"content": text, "add_special": False, "parse_special": special})
        return [int(token) for token in reply["tokens"]]

    def close(self) -> None:
        """Unload the model."""
        with self._lock:
            self._server = None

    @property
    def _engine(self) -> Any:
        if self._server is None:
            raise LanguageModelError("the model is closed.", where=self.name, remedy="open it anew")
        return self._server

    def _count(self, text: str) -> int:
        return len(self.tokens(text))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._secret}"}
        address = self._engine.listening_address + path
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
            return json.load(reply)

    def body(self, call: Call) -> dict[str, Any]:
        """Return a call in the engine's words."""
        s = call.settings
        body: dict[str, Any] = {
            "max_tokens": s.max_tokens,
            "temperature": s.temperature,
            "top_p": s.top_p,
            "seed": s.seed,
            "stop": list(s.stop),
            "top_k": 0,
            "min_p": 0.0,
            "cache_prompt": self.reuse_prefix,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if call.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": call.schema.document}}
        if call.prompt is not None:
            return {**body, "prompt": call.prompt}
        return {**body, "messages": [m.to_dict() for m in call.messages]}

    def start(self, call: Call, read: Any) -> None:
        """Hand a call to the engine, and every event of its answer to ``read``."""
        handle = self._engine.handle_completions if call.prompt is not None else self._engine.handle_chat_completions
        handle(self.body(call), read)


class _Reading:
    """An answer while it is written: its text so far, its time, its faults (the engine swallows what callbacks raise)."""

    def __init__(self, model: GGUFModel, call: Call, out: Any = None) -> None:
        self.model, self.call, self.out = model, call, out
        self.parts: list[str] = []
        self.finish, self.usage, self.fault = "stop", {"prompt_tokens": 0, "completion_tokens": 0}, ""
        self.stopped = self.late = False

    def run(self) -> Answer:
        """Ask the engine; return the whole answer."""
        start = time.monotonic()
        self.deadline = start + self.call.timeout
        try:
            self.model.start(self.call, self._read)
        except ValueError as error:
            remedy = "a feature of the schema that llama.cpp's grammar lacks? make it simpler" if self.call.schema else None
            raise ConfigError(f"llama.cpp refuses the call: {str(error)[:300]}", where=self.model.name, remedy=remedy) from None
        if self.fault:
            raise LanguageModelError(
                f"llama.cpp failed: {self.fault}",
                where=self.model.name,
                remedy="shorten the prompt, or open the model with more context",
            )
        if self.late:
            raise AnswerTimeoutError(
                f"no whole answer in {self.call.timeout:g} s.",
                where=self.model.name,
                remedy="raise the timeout, or lower max_tokens",
            )
        used = self.usage
        seconds = time.monotonic() - start
        return Answer("".join(self.parts), self.finish, used["prompt_tokens"], used["completion_tokens"], seconds)

    def _read(self, event: dict[str, Any]) -> bool:
        """Take one event; return whether the engine shall stop."""
        if "error" in event:
            self.fault = str(event["error"].get("message", event["error"]))
            return True
        if event.get("usage"):
            self.usage = event["usage"]
        for choice in event.get("choices", ()):
            piece = choice.get("text") if self.call.prompt is not None else choice["delta"].get("content")
            if piece:
                self.parts.append(piece)
                if self.out is not None:
                    self.out(piece)
            self.finish = choice.get("finish_reason") or self.finish
        self.late = time.monotonic() > self.deadline
        return self.stopped or self.late


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file.", where=path, remedy="palate lm get smollm2-135m, or name a GGUF file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise DataError("this is no GGUF file.", where=path)
    return path


def file_sha256(path: Path) -> str:
    """Return the hash of a file; read once as long as its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, time_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
