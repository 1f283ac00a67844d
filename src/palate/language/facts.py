"""Hold what a model wrote to what it was given: every number, and every title or name, must stand in the input.

Numbers are compared by value (``1,299.00`` is ``1299``; ``10k`` is ``10000``; ``72 %`` is the fraction 0.72; number words count
from *two* up: *one* is mostly a pronoun). Names are three things: titles of the catalogue, words with letters and digits
(``XB13``), and words that stand capitalised or quoted. A capitalised word that only begins a sentence says nothing of whether
it is a name: it is let pass unless the catalogue has it as a title, it stands beside another capitalised word, or ``strict`` is
set. What a check of words can't see is a false relation between true facts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from palate.language.failures import FactError
from palate.language.model import LanguageModel, Message, Settings
from palate.language.quoting import clean

_NUMBER = re.compile(
    r"(?<![^\W_])([-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)(?:(k|m|bn)\b|(?=(?:st|nd|rd|th|s|x)\b)|(?![^\W_]))",
    re.IGNORECASE,
)
_TIMES = {"k": 10**3, "m": 10**6, "bn": 10**9}
_ENDINGS = re.compile(r"[\d.,]+(?:st|nd|rd|th|s|x|k|m|bn)", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’.&-][^\W_]+)*")
_QUOTED = re.compile(r"[\"“„«*_]{1,2}([^\"”“„«»*_\n]{2,120}?)[\"”“»*_]{1,2}")
_UNITS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_TEENS = "sixteen seventeen eighteen nineteen"
_SMALL = dict(zip([*_UNITS.split(), *_TEENS.split()], range(2, 20), strict=True))
_TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)
_BIG = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_LINKING = "of the and a an in on at to for from with de la le du der die das von van & vs or"
#: Words inside names that stand small.
_LINKS = frozenset(_LINKING.split())
_JOINING = frozenset(("and", "or", "vs"))
_OPENING = (
    "i i'm i've i'd i'll a an the this that these those it its it's he she they we you your our their his her my mine one "
    "and or but so if when while because since although as for from with without in on at to of by about after before "
    "both each every all some many most more no not yes here there what which who why how where is are was were be has have "
    "had do does did will would can could should may might must also however therefore overall instead"
)
#: Capitalised words that name nothing.
_PLAIN = frozenset(_OPENING.split())


@dataclass(frozen=True)
class Facts:
    """What a model was given.

    Attributes
    ----------
    texts
        Every text, as words in small letters.
    numbers
        Every number.
    titles
        The catalogue's titles as words: those among them that were not given must not be named.
    """

    texts: tuple[tuple[str, ...], ...]
    numbers: frozenset[Decimal]
    titles: frozenset[tuple[str, ...]] = frozenset()
    longest: int = field(default=0)

    @classmethod
    def of(cls, *sources: Any, catalogue: Iterable[str] = ()) -> Facts:
        """Gather facts from texts, numbers, messages, and lists or mappings of such.

        Parameters
        ----------
        *sources
            What the model was given.
        catalogue
            All titles that it must not name unless given.
        """
        texts, numbers = [], set()
        for leaf in _leaves(sources):
            if isinstance(leaf, str):
                texts.append(tuple(words(leaf)))
                numbers |= {value for value, _ in numbers_of(leaf)}
            else:
                numbers.add(_decimal(str(leaf)))
        titles = frozenset(t for t in (tuple(words(title)) for title in catalogue) if t)
        return cls(tuple(texts), frozenset(numbers), titles, max(map(len, titles), default=0))

    def has_words(self, wanted: Sequence[str]) -> bool:
        """Say whether words stand, one after another, in one text."""
        n, wanted = len(wanted), tuple(wanted)
        return any(wanted == text[at : at + n] for text in self.texts for at in range(len(text) - n + 1))

    def has_number(self, value: Decimal, *, percent: bool) -> bool:
        """Say whether a number was given, as itself or (of per cents) as a fraction."""
        return value in self.numbers or -value in self.numbers or (percent and value / 100 in self.numbers)


@dataclass(frozen=True)
class Violation:
    """Something that an answer names and was not given.

    Attributes
    ----------
    kind
        ``"number"``, ``"title"`` (of the catalogue) or ``"name"``.
    text
        As it stands in the answer.
    """

    kind: Literal["number", "title", "name"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.text!r}"


def check_facts(answer: str, facts: Facts, *, strict: bool = False) -> list[Violation]:
    """Return every number, title and name of an answer that was not given; an empty list where all were.

    Parameters
    ----------
    answer
        What the model wrote.
    facts
        What it was given.
    strict
        Hold capitalised words that begin a sentence to the facts, too.
    """
    text = unicodedata.normalize("NFKC", answer)
    found = [Violation("number", told) for value, told in numbers_of(text) if not facts.has_number(value, percent="%" in told)]
    found += _titles(text, facts)
    found += _names(text, facts, strict=strict)
    return list(dict.fromkeys(found))


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, without the possessive's ending."""
    return [_small(match.group()) for match in _WORD.finditer(unicodedata.normalize("NFKC", text))]


def _small(word: str) -> str:
    word = word.casefold().replace("’", "'")
    return word.removesuffix("'s")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text.replace(",", "").replace("\u2212", "-")).normalize()
    except InvalidOperation:
        return Decimal("NaN")


def numbers_of(text: str) -> list[tuple[Decimal, str]]:
    """Return each number of a text with the words that tell it, per cent signs included."""
    text = unicodedata.normalize("NFKC", text)
    found = []
    for match in _NUMBER.finditer(text):
        after = re.match(r"\s*(%|per\s?cent\b)", text[match.end() :], re.I)
        value = _decimal(match.group(1)) * _TIMES.get((match.group(2) or "").casefold(), 1)
        found.append((value.normalize(), match.group() + (" %" if after else "")))
    return found + _spelled(text)


def _spelled(text: str) -> list[tuple[Decimal, str]]:
    """Return numbers that are written as words, such as *twenty-five* or *three hundred*."""
    found: list[tuple[Decimal, str]] = []
    total, told = 0, []
    for word in [*re.findall(r"[a-z]+", text.casefold()), ""]:
        if word in _SMALL or word in _TENS:
            total += _SMALL.get(word) or _TENS[word]
            told.append(word)
        elif word == "one" and told and told[-1] in _TENS:
            total += 1
            told.append(word)
        elif word.removesuffix("s") in _BIG:
            total = max(total, 1) * _BIG[word.removesuffix("s")]
            told.append(word)
        elif told:
            found.append((_decimal(str(total)), " ".join(told)))
            total, told = 0, []
    return found


def _titles(text: str, facts: Facts) -> list[Violation]:
    """Find titles of the catalogue that were not given.

    A title of three words or more counts in any letters, a shorter one only where each of its longer words is capitalised.
    """
    if not facts.titles:
        return []
    spans = list(_WORD.finditer(text))
    small = [_small(span.group()) for span in spans]
    found, at = [], 0
    while at < len(spans):
        for n in range(min(facts.longest, len(spans) - at), 0, -1):
            title = tuple(small[at : at + n])
            if title in facts.titles and _told_as_title(spans[at : at + n], begins=_begins(text, spans[at].start())):
                if not facts.has_words(title):
                    found.append(Violation("title", text[spans[at].start() : spans[at + n - 1].end()]))
                at += n - 1
                break
        at += 1
    return found


def _told_as_title(spans: Sequence[re.Match[str]], *, begins: bool) -> bool:
    if len(spans) >= 3:
        return True
    told = [span.group() for span in spans]
    if len(told) == 1 and begins and _small(told[0]) in _PLAIN:
        return False
    return all(word[0].isupper() or word[0].isdigit() or word in _LINKS for word in told) and not told[0].isdigit()


def _begins(text: str, at: int) -> bool:
    """Say whether a sentence (or a line of a list) begins at a place."""
    before = text[:at].rstrip(" \t\"“'(*_-•#>")
    return not before or before[-1] in ".!?:\n" or text[:at].rstrip(" \t\"“'(*_-•#>").endswith("\n")


def _names(text: str, facts: Facts, *, strict: bool) -> list[Violation]:
    """Find words that look like names and were not given."""
    spans = list(_WORD.finditer(text))
    found = [Violation("name", match.group(1)) for match in _QUOTED.finditer(text) if not _given(match.group(1), facts)]
    at = 0
    while at < len(spans):
        end = _end_of_name(text, spans, at)
        if end == at:
            word = spans[at].group()
            if _mixed(word) and not facts.has_words([_small(word)]):
                found.append(Violation("name", word))
            at += 1
            continue
        told = text[spans[at].start() : spans[end - 1].end()]
        lone = end - at == 1
        begins = _begins(text, spans[at].start())
        if not (lone and begins and not strict and not _mixed(told)) and not _pieces_given(spans[at:end], facts, begins=begins):
            found.append(Violation("name", told))
        at = end
    return found


def _mixed(word: str) -> bool:
    """Say whether a word has letters and digits, and is no number with an ending (``2nd``, ``90s``, ``10k``)."""
    return any(map(str.isalpha, word)) and any(map(str.isdigit, word)) and not _ENDINGS.fullmatch(word)


def _end_of_name(text: str, spans: Sequence[re.Match[str]], at: int) -> int:
    """Return the end of the run of capitalised words that begins here (``at`` itself where none does)."""
    if not spans[at].group()[0].isupper() or _small(spans[at].group()) in _PLAIN:
        return at
    end = last = at + 1
    while last < len(spans):
        gap = re.fullmatch(r"[ \t]|: ", text[spans[last - 1].end() : spans[last].start()])
        if gap is None:
            break
        word = spans[last].group()
        if word[0].isupper() or (word[0].isdigit() and end == last and gap.group() == " "):
            end = last + 1
        elif word not in _LINKS:
            break
        last += 1
    return end


def _given(told: str, facts: Facts) -> bool:
    return facts.has_words(words(told))


def _pieces_given(spans: Sequence[re.Match[str]], facts: Facts, *, begins: bool) -> bool:
    """Say whether a run of capitalised words stands in the facts.

    Whole; or cut where two are joined (*Alien and Heat*); or, where it begins a sentence, but for its first word.
    """
    run = [_small(span.group()) for span in spans]
    if facts.has_words(run) or (begins and len(run) > 1 and facts.has_words(run[1:])):
        return True
    for at in range(1, len(run) - 1):
        if run[at] in _JOINING:
            after = at + 1 + (run[at + 1] in ("the", "a", "an") and at + 2 < len(run))
            return _pieces_given(spans[:at], facts, begins=begins) and _pieces_given(spans[after:], facts, begins=False)
    return False


@dataclass(frozen=True)
class Grounded:
    """A text whose facts were checked.

    Attributes
    ----------
    text
        The text.
    source
        ``"model"``, or ``"template"`` where no answer of the model held.
    refused
        What was wrong with each answer that was refused.
    """

    text: str
    source: Literal["model", "template"]
    refused: tuple[tuple[Violation, ...], ...] = ()


def grounded(
    model: LanguageModel,
    messages: str | Sequence[Message],
    facts: Facts,
    settings: Settings | None = None,
    *,
    template: str | Callable[[], str] | None = None,
    tries: int = 2,
    strict: bool = False,
    **changes: Any,
) -> Grounded:
    """Answer a chat with nothing that was not given: each refused answer is told why, and at last a template speaks.

    Raises
    ------
    FactError
        If no answer holds and there is no template.
    """
    turns = [Message("user", messages)] if isinstance(messages, str) else list(messages)
    refused: list[tuple[Violation, ...]] = []
    for _ in range(tries):
        text = model.chat(turns, settings, **changes).text.strip()
        wrong = tuple(check_facts(text, facts, strict=strict))
        if text and not wrong:
            return Grounded(text, "model", tuple(refused))
        refused.append(wrong)
        told = "it is empty." if not text else f"it names what was not given: {_told(wrong)}."
        turns = [
            *turns,
            Message("assistant", text or "(nothing)"),
            Message("user", f"That answer is refused: {told} Write it again."),
        ]
    if template is None:
        raise FactError(
            f"no answer in {tries} tries holds to what was given.",
            where=model.name,
            value="; ".join(map(str, refused[-1])) or "an empty answer",
            remedy="give a template, or a larger model",
        )
    return Grounded(template if isinstance(template, str) else template(), "template", tuple(refused))


def _told(wrong: Sequence[Violation]) -> str:
    """Name what was wrong, in words short and clean enough to stand in a prompt: they come from the model's answer."""
    return ", ".join(clean(w.text)[:40] for w in wrong[:8])


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, Message):
        yield value.content
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(key)
            yield from _leaves(inner)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (str, int, float, Decimal)):
        yield value
    else:
        yield str(value)
