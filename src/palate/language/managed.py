"""ManagedModel: any language model with a cache, budgets, a rate limit, retries and a record of cost around it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.extras import require
from palate.language.cache import AnswerCache
from palate.language.failures import BudgetError, LanguageModelError, TransientError
from palate.language.model import Answer, Call, LanguageModel, invalid

#: Seconds of the window over which calls are counted.
WINDOW = 60.0


class Limits(BaseModel):
    """How far a model may go. Unset limits (``None``) don't hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout: float = Field(120.0, gt=0, description="seconds that one try may take")
    retries: int = Field(4, ge=0, description="more tries after a failure that may pass")
    backoff: float = Field(1.0, ge=0, description="seconds before the first retry; doubles with each, with chance added")
    longest_wait: float = Field(60.0, gt=0, description="seconds between two tries, at most")
    calls_per_minute: int | None = Field(None, gt=0, description="calls in any 60 seconds, at most; later ones wait")
    max_calls: int | None = Field(None, ge=0, description="calls in all, tries counted")
    max_tokens: int | None = Field(None, ge=0, description="tokens read and written in all")
    max_cost: float | None = Field(None, ge=0, description="money in all")
    price_in: float = Field(0.0, ge=0, description="money for a million tokens read")
    price_out: float = Field(0.0, ge=0, description="money for a million tokens written")
    currency: str = Field("USD", min_length=1, description="of prices and cost")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return the price of a call."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass
class Budget:
    """What was spent, and what calls under way may spend yet; shared by threads (and by models, where wanted).

    A call reserves its most before it is made: one try, the tokens of its prompt (an estimate where the model has no
    tokenizer) and ``max_tokens``. So a budget is passed by no more than the error of those estimates.
    """

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def reserve(self, limits: Limits, tokens_in: int, tokens_out: int) -> Iterator[Callable[[Answer], None]]:
        """Hold room for a call; what is handed out is called with the answer, and puts real figures in place."""
        tokens, cost = tokens_in + tokens_out, limits.cost(tokens_in, tokens_out)
        with self._lock:
            self._check("max_calls", self.calls + 1, limits.max_calls)
            self._check("max_tokens", self.tokens + tokens, limits.max_tokens)
            self._check("max_cost", self.cost + cost, limits.max_cost)
            self.calls, self.tokens, self.cost = self.calls + 1, self.tokens + tokens, self.cost + cost
        real = [0, 0.0]

        def settle(answer: Answer) -> None:
            real[:] = [answer.tokens_in + answer.tokens_out, answer.cost]

        try:
            yield settle
        finally:
            with self._lock:
                self.tokens += int(real[0]) - tokens
                self.cost += real[1] - cost

    @staticmethod
    def _check(name: str, wanted: float, most: float | None) -> None:
        if most is not None and wanted > most * (1 + 1e-12):
            raise BudgetError(
                "the budget does not allow another call.",
                where=f"limits.{name} = {most:g}",
                value=round(wanted, 6),
                remedy="raise the limit, and run again: what is answered already comes from the cache",
            )


class RateLimit:
    """At most so many calls in any 60 seconds; a further one waits."""

    def __init__(self, calls: int, window: float = WINDOW) -> None:
        self._calls, self._window = calls, window
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def wait(self) -> float:
        """Wait for a turn; return the seconds waited. Turns are given in the order of asking."""
        with self._lock:
            now = time.monotonic()
            turn = now if len(self._times) < self._calls else max(now, self._times[0] + self._window)
            if len(self._times) == self._calls:
                self._times.popleft()
            self._times.append(turn)
        time.sleep(turn - now)
        return turn - now


class ManagedModel(LanguageModel):
    """A language model that keeps its answers and stays within limits; itself a :class:`LanguageModel`.

    Parameters
    ----------
    model
        What answers.
    cache
        Answers kept before, ``"default"`` for the user's cache folder, a path, or ``None`` to keep none.
    limits
        Budgets, rate, retries, prices; or settings of :class:`Limits` by name.
    budget
        Shared with other models where given.
    """

    kind = "managed language model"

    def __init__(
        self,
        model: LanguageModel,
        *,
        cache: AnswerCache | str | Path | Literal["default"] | None = "default",
        limits: Limits | None = None,
        budget: Budget | None = None,
        **settings: Any,
    ) -> None:
        try:
            given = {} if limits is None else limits.model_dump()
            self.limits = Limits.model_validate({**given, **settings})
        except ValidationError as error:
            raise invalid(error, "limits of a language model") from None
        self.model = model
        self.settings, self.timeout = model.settings, self.limits.timeout
        self.constrains, self.exact_tokens = model.constrains, model.exact_tokens
        self.special_tokens = model.special_tokens
        if cache == "default":
            cache = AnswerCache()
        self.cache = AnswerCache(cache) if isinstance(cache, (str, Path)) else cache
        self.budget = budget or Budget()
        self._rate = None if self.limits.calls_per_minute is None else RateLimit(self.limits.calls_per_minute)
        self._asking: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        """The inner model's name."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """The inner model's fingerprint."""
        return self.model.fingerprint

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self.model.count_tokens(text)

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]``; not cached."""
        return self.model.hidden_states(texts)

    def close(self) -> None:
        """Free the engine and close the cache."""
        self.model.close()
        if self.cache is not None:
            self.cache.close()

    def answer(self, call: Call) -> Answer:
        """Answer from the cache, else ask within the limits. The same call from two threads is asked once."""
        key = AnswerCache.key(self.fingerprint, call.key)
        with self._alone(key):
            return self._kept(key) or self._keep(key, self._ask(call))

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield an answer piece by piece; kept when it is whole. A stream that broke is not tried again."""
        key = AnswerCache.key(self.fingerprint, call.key)
        found = self._kept(key)
        if found is not None:
            yield found.text
            yield found
            return
        tokens_in = self.model.count_tokens(call.text)
        parts: list[str] = []
        answer = None
        with self.budget.reserve(self.limits, tokens_in, call.settings.max_tokens) as settle:
            if self._rate is not None:
                self._rate.wait()
            try:
                for piece in self.model.pieces(replace(call, timeout=self.limits.timeout)):
                    if isinstance(piece, str):
                        parts.append(piece)
                        yield piece
                    else:
                        answer = self._priced(piece)
            finally:
                if answer is None:  # broken off: what came has been paid for
                    text = "".join(parts)
                    broken = self._priced(Answer(text, "length", tokens_in, self.model.count_tokens(text) if text else 0))
                    settle(broken)
                    self._count(broken, failed=1)
                else:
                    settle(answer)
            if answer is None:
                raise LanguageModelError("the engine ended a stream without its answer.", where=self.name)
        yield self._keep(key, answer)

    def _priced(self, answer: Answer) -> Answer:
        return replace(answer, cost=self.limits.cost(answer.tokens_in, answer.tokens_out))

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Hold a key, so that a second thread finds the first one's answer."""
        with self._guard:
            lock = self._asking.setdefault(key, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._asking.pop(key, None)

    def _kept(self, key: str) -> Answer | None:
        found = None if self.cache is None else self.cache.get(key)
        if found is not None:
            self._spend(cached=1)
        return found

    def _keep(self, key: str, answer: Answer) -> Answer:
        self._count(answer, calls=1)
        return answer if self.cache is None else self.cache.put(key, self.name, answer)

    def _count(self, answer: Answer, **counts: int) -> None:
        figures = {name: getattr(answer, name) for name in ("tokens_in", "tokens_out", "seconds", "cost")}
        self._spend(**counts, **figures)

    def _spend(self, **counts: float) -> None:
        if self.cache is not None:
            self.cache.spend(self.name, self.limits.currency, **counts)

    def _ask(self, call: Call) -> Answer:
        tenacity = require("tenacity", "Retries of a language model")
        limits = self.limits
        spread = tenacity.wait_exponential(multiplier=limits.backoff) + tenacity.wait_random(0, limits.backoff)

        def wait(state: Any) -> float:
            asked = getattr(state.outcome.exception(), "retry_after", None)
            return min(limits.longest_wait, max(spread(state), asked or 0.0))

        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(limits.retries + 1),
            wait=wait,
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        )
        return tries(self._try, replace(call, timeout=limits.timeout))

    def _try(self, call: Call) -> Answer:
        """Make one try within the budget and the rate."""
        expected = self.model.count_tokens(call.text)
        with self.budget.reserve(self.limits, expected, call.settings.max_tokens) as settle:
            if self._rate is not None:
                self._rate.wait()
            try:
                answer = self.model.answer(call)
            except TransientError:
                self._spend(failed=1)
                raise
            answer = self._priced(answer)
            settle(answer)
            return answer
