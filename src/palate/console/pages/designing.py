"""The form that makes an experiment: its kind, as many variants and metrics as are wanted, and what is wrong with a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from nicegui import ui
from nicegui.element import Element

from palate.console import design, parts
from palate.console.desk import Visit
from palate.console.pages.changing import Change, what_can_be_changed
from palate.errors import ConfigError, PalateError
from palate.serve.experiments import live

#: What a metric may be for.
ROLES = {"goal": "decides", "guardrail": "must not get worse"}
#: Which way of a guardrail is good.
BETTER = {"higher": "more is better", "lower": "less is better"}


class Card(Protocol):
    """The fields of one of several things, by the keys of the spec that they are for."""

    fields: dict[str, parts.Field]


C = TypeVar("C", bound=Card)


class _Frame(NamedTuple):
    """What is around the fields of one."""

    box: Element
    legend: ui.label
    button: ui.button


class Cards(Generic[C]):
    """Things of one sort, as many as are wanted: each is a named group of fields, and can be taken out again.

    Parameters
    ----------
    what
        What one of them is called.
    title
        Names one by its number (from 0).
    make
        Makes the fields of one.
    fewest
        How many there must be.
    kept
        How many of the first ones can't be taken out.
    changed
        Called when there are more or fewer.
    """

    def __init__(
        self,
        visit: Visit,
        what: str,
        title: Callable[[int], str],
        make: Callable[[], C],
        changed: Callable[[], None],
        *,
        fewest: int,
        kept: int,
    ) -> None:
        self.visit, self.what, self.title, self.make, self.changed = visit, what, title, make, changed
        self.fewest, self.kept = fewest, kept
        self.cards: list[C] = []
        self._frames: dict[C, _Frame] = {}
        self.place = parts.box("div", "stack")
        self.said = parts.said()
        with parts.box("div", "line middle"):
            self.button = parts.button(f"Another {what}", visit.guarded(self._another), kind="side")
            self.news = parts.text("", classes="soft small")
            self.news.props["role"] = "status"

    def begin(self) -> None:
        """Add as many as there must be."""
        for _ in range(self.fewest):
            self.add()

    def add(self) -> C:
        """Add one."""
        with self.place, parts.box("div", "panel inner") as frame, parts.box("fieldset"):
            legend = parts.text("", "legend")
            with parts.box("div", "fields"):
                card = self.make()
            with parts.box("div", "line"):
                button = parts.button("Remove", self.visit.guarded(lambda: self._remove(card)), kind="small")
        for field in card.fields.values():
            parts.forgives(field)
        self.cards.append(card)
        self._frames[card] = _Frame(frame, legend, button)
        self._name()
        return card

    def show(self, most: int | None) -> list[C]:
        """Show only the first ones, or all; return which are shown."""
        for at, card in enumerate(self.cards):
            self._frames[card].box.set_visibility(most is None or at < most)
        self.button.set_visibility(most is None)
        self.news.set_text("")
        return self.cards[:most]

    def _name(self) -> None:
        for at, card in enumerate(self.cards):
            frame = self._frames[card]
            frame.legend.set_text(self.title(at))
            frame.button.props["aria-label"] = f"Remove {self.title(at).lower()}"
            frame.button.set_visibility(at >= self.kept and len(self.cards) > self.fewest)

    async def _another(self) -> None:
        card = self.add()
        self.changed()
        self.news.set_text(f"{self.title(len(self.cards) - 1)} is added.")
        parts.focus(next(iter(card.fields.values())))

    async def _remove(self, card: C) -> None:
        gone = self.title(self.cards.index(card))
        self._frames.pop(card).box.delete()
        self.cards.remove(card)
        self._name()
        self.changed()
        self.news.set_text(f"{gone} is taken out.")
        parts.focus(self.button)


class VariantFields:
    """A variant: name, weight, and what it changes."""

    def __init__(self, name: str, versions: list[str], changed: Callable[[], None]) -> None:
        self.name = parts.entry("Name of the variant", name)
        self.weight = parts.figure("Weight", 1.0, min=0, step=1)
        self.weight.on_value_change(changed)
        self.change = Change(versions)
        self.fields: dict[str, parts.Field] = {
            "name": self.name,
            "weight": self.weight,
            "model": self.change.model,
            "pipeline": self.change.more,
        }

    def spec(self, weighed: bool) -> dict[str, Any]:
        """Return plain values for the spec."""
        model, pipeline = self.change.given()
        weight = {"weight": self.weight.value} if weighed else {}
        return {"name": self.name.value.strip(), "model": model, "pipeline": pipeline, **weight}


class MetricFields:
    """A metric: what is counted, of which type, what reports call it, and whether it is a goal or a guardrail."""

    def __init__(self, interleaves: bool) -> None:
        self.interleaves = interleaves
        kinds = {"feedback": design.METRICS["feedback"]} if interleaves else design.METRICS
        self.kind = parts.select("What is counted", kinds, next(iter(kinds)))
        self.type = parts.entry("Only of the type")
        kinds_of = "of feedback, such as click" if interleaves else "of event or feedback"
        parts.hint(self.type, f"{kinds_of}; empty: all")
        self.name = parts.entry("Name in reports")
        self.fields: dict[str, parts.Field] = {"kind": self.kind, "type": self.type, "name": self.name}
        for field in (self.kind, self.type):
            field.on_value_change(self._call)
        self._call()
        self.kind.set_visibility(not interleaves)
        if not interleaves:
            self._guard()

    def _guard(self) -> None:
        self.role = parts.select("What it is for", ROLES, "goal")
        self.margin = parts.figure("At most worse by", 0.05, min=0, max=1, step=0.01)
        parts.hint(self.margin, "share of the control's value")
        self.better = parts.select("Which way is good", BETTER, "higher")
        self.fields |= {"role": self.role, "guardrail": self.margin, "better": self.better}
        self.role.on_value_change(self._turn)
        self._turn()

    def _call(self) -> None:
        parts.hint(self.name, f"empty: {design.metric_name(self.kind.value, self._type())}")

    def _turn(self) -> None:
        for field in (self.margin, self.better):
            field.set_visibility(self.role.value == "guardrail")

    def _type(self) -> str | None:
        return (self.type.value or "").strip() or None

    def spec(self) -> dict[str, Any]:
        """Return plain values for the spec."""
        kind, type_ = self.kind.value, self._type()
        found = {"kind": kind, "type": type_, "name": (self.name.value or "").strip() or design.metric_name(kind, type_)}
        if not self.interleaves and self.role.value == "guardrail":
            found |= {"guardrail": self.margin.value, "better": self.better.value}
        return found


class Form:
    """All fields, and what is wrong with them.

    Parameters
    ----------
    versions
        Of models that a variant may use in place of the active one.
    """

    def __init__(self, visit: Visit, versions: list[str]) -> None:
        self.kind, self.versions = "split", versions
        parts.choice("What kind it is", design.KINDS, self.kind, self._turn)
        with parts.group("Name and size"), parts.box("div", "fields"):
            self.name = parts.entry("Name")
            self.planned = parts.figure("People planned", 1_000, min=2, step=100)
            parts.hint(self.planned, "at which it is to be read")
            self.traffic = parts.figure("Take part", 1.0, min=0.01, max=1, step=0.1)
            parts.hint(self.traffic, "share of all people")
            self.days = parts.figure("Days of events before", 0, min=0, step=7)
            parts.hint(self.days, "lowers the variance; 0: none")
        self.fields: dict[str, parts.Field] = {
            "name": self.name,
            "planned": self.planned,
            "traffic": self.traffic,
            "covariate_days": self.days,
        }
        for field in self.fields.values():
            parts.forgives(field)
        with parts.group("Variants: the first is the control"):
            what_can_be_changed(visit.service.settings.pipeline)
            self.note = parts.text("", classes="soft small")
            self.note.props["role"] = "status"
            self.variants = Cards(visit, "variant", _called, self._variant, self._again, fewest=2, kept=1)
            self.variants.begin()
        self.metrics: dict[str, Cards[MetricFields]] = {}
        self.groups = {}
        for kind, title in (("split", "What is measured"), ("interleaving", "Whose items count as chosen")):
            with parts.group(title) as self.groups[kind]:
                make = _metric_maker(kind == "interleaving")
                self.metrics[kind] = Cards(visit, "metric", lambda at: f"Metric {at + 1}", make, lambda: None, fewest=1, kept=0)
                self.metrics[kind].begin()
        self.said = parts.said()
        self.planned.on_value_change(self._weigh)
        self._turn(self.kind)

    def _variant(self) -> VariantFields:
        taken = {card.name.value for card in self.variants.cards}
        at = len(self.variants.cards)
        names = (_called(number).lower() for number in range(at, 2 * at + 1))
        return VariantFields(next(name for name in names if name not in taken), self.versions, self._weigh)

    def _turn(self, kind: str) -> None:
        """Show the fields of a kind of experiment, and keep what was written into the others."""
        self.kind = kind
        split = kind == "split"
        self.variants.show(None if split else 2)
        for card in self.variants.cards:
            card.weight.set_visibility(split)
        self.days.set_visibility(split)
        for name, place in self.groups.items():
            place.set_visibility(name == kind)
        left = [card.name.value or "one without a name" for card in self.variants.cards[2:]]
        self.note.set_text("" if split or not left else f"Interleaving compares two: {', '.join(left)} is left out.")
        self._weigh()

    def _again(self) -> None:
        self._turn(self.kind)

    def _weigh(self) -> None:
        words = design.shares([card.weight.value for card in self.variants.cards], self.planned.value)
        for card, share in zip(self.variants.cards, words, strict=True):
            parts.hint(card.weight, share)

    def spec(self) -> tuple[dict[str, Any], list[design.Fault]]:
        """Return plain values for the spec, and which keys of pipelines are no JSON."""
        split, faults, variants = self.kind == "split", [], []
        for at, card in enumerate(self.variants.cards if split else self.variants.cards[:2]):
            try:
                variants.append(card.spec(split))
            except ConfigError as error:
                faults.append(design.Fault(("variants", at, "pipeline"), design.in_a_line(error)))
        found = {
            "kind": self.kind,
            "variants": variants,
            "metrics": [card.spec() for card in self.metrics[self.kind].cards],
            "planned": self.planned.value,
            "traffic": self.traffic.value,
            "covariate_days": (self.days.value or None) if split else None,
        }
        return found, faults

    def tell(self, faults: Sequence[design.Fault]) -> None:
        """Put each fault beside its field, else beside its group, else at the end; go to the first."""
        cards: dict[str, Cards[Any]] = {"variants": self.variants, "metrics": self.metrics[self.kind]}
        groups = [self.variants.said, *(one.said for one in self.metrics.values()), self.said]
        words: dict[Any, list[str]] = {place: [] for place in [*self._all(), *groups]}
        for fault in faults:
            words[self._place(fault.path, cards)].append(fault.words)
        for place, lines in words.items():
            if place in groups:
                cast(ui.label, place).set_text(" ".join(lines))
            else:
                parts.fault(place, " ".join(lines) or None)
        first = next((place for place, lines in words.items() if lines and place not in groups), None)
        if first is not None:
            parts.focus(first)

    def _all(self) -> list[parts.Field]:
        """Return all fields, in their order on the page."""
        cards: list[Card] = [*self.variants.cards, *(card for one in self.metrics.values() for card in one.cards)]
        return [*self.fields.values(), *(field for card in cards for field in card.fields.values())]

    def _place(self, path: design.Path, cards: dict[str, Cards[Any]]) -> Any:
        """Return the field of a path, else the words of its group, else those of the whole form."""
        if not path or path[0] not in cards:
            return self.fields.get(str(path[0]), self.said) if path else self.said
        group = cards[str(path[0])]
        fields = group.cards[int(path[1])].fields if len(path) > 2 else {}
        return fields.get(str(path[2]), group.said) if fields else group.said


def _called(at: int) -> str:
    return f"Variant {at}" if at else "Control"


def _metric_maker(interleaves: bool) -> Callable[[], MetricFields]:
    return lambda: MetricFields(interleaves)


def panel(visit: Visit, versions: list[str], made: Callable[[], Any]) -> None:
    """Show the form; ``made`` is called when an experiment came of it."""
    about = "A variant differs from the service as it stands by its model, its diversity, or any other key of the pipeline."
    with parts.panel("Make an experiment", about):
        form = Form(visit, versions)

        async def make() -> None:
            name, service = form.name.value.strip(), visit.service
            given, faults = form.spec()
            spec = None
            if not faults:
                spec, faults = await visit.call(design.check, given, service.settings.pipeline, service.attempt, scope="admin")
            if not name:
                faults = [design.Fault(("name",), "An experiment needs a name: letters, digits, dots and dashes."), *faults]
            if spec is not None and not faults:
                try:
                    given_to = service.store, name, spec, service.settings.pipeline, service.attempt
                    await visit.call(live.create, *given_to, scope="admin")
                except PalateError as error:
                    faults = [design.refused(error, spec.names)]
            form.tell(faults)
            if not faults:
                visit.say(f"{name} is made; start it when you are ready.")
                made()

        with parts.box("div", "line"):
            parts.button("Make", visit.guarded(make), name="Make the experiment")
