"""Many prompts: answered in order of the rows, errors told row by row, progress shown, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import BaseModel

from palate.errors import ConfigError, PalateError
from palate.language.model import LanguageModel, Message, Settings
from palate.language.schema import Schema
from palate.progress import Progress, ProgressEvent, silent


@dataclass(frozen=True)
class Row:
    """What became of a prompt.

    Attributes
    ----------
    value
        The text of the answer, or the value of the schema; ``None`` after an error.
    error
        Why there is none, or ``None``.
    """

    value: Any = None
    error: PalateError | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


def batch(
    model: LanguageModel,
    prompts: Iterable[str | Sequence[Message]],
    settings: Settings | None = None,
    *,
    schema: type[BaseModel] | dict[str, Any] | Schema | None = None,
    workers: int = 1,
    progress: Progress = silent,
    **changes: Any,
) -> list[Row]:
    """Answer many chats.

    With a :class:`~palate.language.managed.ManagedModel` every answer is kept as soon as it is there: the same batch after a
    kill, a crash or a spent budget asks only for what is missing.

    Parameters
    ----------
    prompts
        Chats; read as they are needed, so a generator of millions is well.
    settings, schema, **changes
        As for :meth:`~palate.language.model.LanguageModel.chat` and ``json``.
    workers
        Calls under way at once: 1 for an engine in this process, more for an endpoint.

    Returns
    -------
    list of Row
        One a prompt, in their order. A spent budget, too, is an error of the rows that it left unanswered.
    """
    if workers < 1:
        raise ConfigError("at least one worker is needed.", where="workers", value=workers)
    wanted = None if schema is None else Schema.of(schema)
    shaped = Settings.parse(settings or model.settings, **changes)

    def one(prompt: str | Sequence[Message]) -> Row:
        try:
            if wanted is not None:
                return Row(model.json(prompt, wanted, shaped))
            return Row(model.chat(prompt, shaped).text)
        except PalateError as error:
            return Row(error=error)

    total = len(prompts) if isinstance(prompts, Sequence) else None
    rest, rows, wrong = iter(enumerate(prompts)), {}, 0
    with ThreadPoolExecutor(workers, thread_name_prefix="palate-lm") as pool:
        waiting: dict[Future[Row], int] = {}
        try:
            while True:
                for at, prompt in islice(rest, 2 * workers - len(waiting)):
                    waiting[pool.submit(one, prompt)] = at
                if not waiting:
                    break
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    row = rows[waiting.pop(future)] = future.result()
                    wrong += not row.ok
                progress(ProgressEvent("answers", len(rows), total, {"errors": float(wrong)}))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [rows[at] for at in range(len(rows))]
