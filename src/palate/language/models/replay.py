"""Recorded answers instead of a model: for tests, demonstrations, and to look at what a model said.

A recording is JSON lines, one a call: its key, what was asked (for people to read; the key alone decides) and the answer. One
call may stand there several times: then its answers come in their order, and the last one stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import DataError
from palate.language.failures import ReplayMissError
from palate.language.model import Answer, Call, LanguageModel, Settings


class ReplayModel(LanguageModel):
    """Gives the answers of a recording; a call that it lacks is an error that names the key.

    Parameters
    ----------
    path
        The recording.
    constrains
        What the recorded model said of itself.
    settings
        Of calls that name none: those with which it was recorded.
    """

    kind = "recording"

    def __init__(self, path: str | Path, *, constrains: bool = False, settings: Settings | None = None) -> None:
        self.path, self.constrains, self.settings = Path(path), constrains, settings or Settings()
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._at: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        for key, answer in _read(self.path):
            self._answers[key].append(answer)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def fingerprint(self) -> str:
        """Place of the recording and its answers' hash."""
        told = json.dumps([[key, [a.text for a in answers]] for key, answers in sorted(self._answers.items())])
        return f"replay:{hashlib.sha256(told.encode()).hexdigest()}"

    def answer(self, call: Call) -> Answer:
        """Return the recorded answer."""
        with self._lock:
            found = self._answers.get(call.key)
            if not found:
                raise ReplayMissError(
                    f"the recording has no answer to the call {call.key}.",
                    where=self.path,
                    value=call.text,
                    remedy="record it: Recorder(model, path); or has the prompt, a setting or the schema changed?",
                )
            at = self._at[call.key]
            self._at[call.key] = min(at + 1, len(found) - 1)
            return found[at]

    def __len__(self) -> int:
        return len(self._answers)


class Recorder(LanguageModel):
    """Passes calls on to a model, and writes each answer at the end of a recording."""

    kind = "recorder"

    def __init__(self, model: LanguageModel, path: str | Path) -> None:
        self.model, self.path = model, Path(path)
        self.settings, self.timeout = model.settings, model.timeout
        self.constrains, self.exact_tokens = model.constrains, model.exact_tokens
        self.special_tokens = model.special_tokens
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """The inner model's name."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """The inner model's fingerprint."""
        return self.model.fingerprint

    def answer(self, call: Call) -> Answer:
        """Answer and record."""
        answer = self.model.answer(call)
        self._write(call, answer)
        return answer

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield and record; a stream that is left early is not recorded."""
        for piece in self.model.pieces(call):
            if isinstance(piece, Answer):
                self._write(call, piece)
            yield piece

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self.model.count_tokens(text)

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]``; not recorded."""
        return self.model.hidden_states(texts)

    def close(self) -> None:
        """Free the inner model."""
        self.model.close()

    def _write(self, call: Call, answer: Answer) -> None:
        row: dict[str, Any] = {
            "key": call.key,
            "messages": [m.to_dict() for m in call.messages],
            "prompt": call.prompt,
            "settings": call.settings.model_dump(mode="json"),
            "schema": None if call.schema is None else call.schema.document,
            "answer": asdict(answer),
        }
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> Iterator[tuple[str, Answer]]:
    if not path.is_file():
        raise DataError("there is no such recording.", where=path, remedy="record one: Recorder(model, path)")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield str(row["key"]), Answer(**row["answer"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"not a recorded answer: {error}.", where=f"{path}, line {number}") from None
