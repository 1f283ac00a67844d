"""An answer as a list to read: pictures, titles, reasons, what to press, and what changed since the answer before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from palate.console import format as show
from palate.console import parts
from palate.serve import answers, wire
from palate.serve.pipeline.config import Need
from palate.serve.service import Service

#: Puts something to press under an item.
Act = Callable[[wire.Offered], None]


def recommend(service: Service, asked: wire.RecommendIn) -> wire.Slate:
    """Return an answer; a model that is named and not in memory is waited for, in this thread of the console's own."""
    load = None if asked.model in (None, "active") else service.loading.ask(Need("model", str(asked.model)))
    if load is not None:
        load.result()
    return answers.recommend(service, asked)


#: Kinds of reasons in the order in which they are told, and the words around the first of them.
REASONS: Mapping[str, tuple[str, str]] = {
    "history": ("Because of ", "."),
    "content": ("Not known to the model yet; says the like of ", ", which they chose."),
    "path": ("By way of ", "."),
    "feature": ("What speaks for it: ", "."),
    "dimension": ("By a taste for ", "."),
}


def why(reasons: Sequence[wire.Reason] | None) -> str:
    """Return the reasons of an item as one sentence: those of the first kind that speaks for it, with their shares."""
    if not reasons:
        return "The model gives no reason."
    told = [reason for reason in reasons if reason.weight > 0]
    kinds = {reason.kind for reason in told}
    kind = next((kind for kind in [*REASONS, "popularity", *sorted(kinds)] if kind in kinds), None)
    if kind is None:
        return "No single reason stands out."
    told = [reason for reason in told if reason.kind == kind]
    if kind == "popularity":
        return f"Chosen {show.counted(round(told[0].weight), 'time')} by others."
    before, after = REASONS.get(kind, (f"By {kind}: ", "."))
    total = sum(reason.weight for reason in told)
    return before + ", ".join(f"{r.text} ({r.weight / total:.0%})" for r in told[:3]) + after


def changes(before: Sequence[str], after: Sequence[str], titles: Mapping[str, str]) -> str:
    """Say in words how an answer differs from the one before it."""
    if not before:
        return ""
    came = [titles.get(item, item) for item in after if item not in before]
    gone = [titles.get(item, item) for item in before if item not in after]
    kept = [item for item in after if item in before]
    moved = sum(1 for item in kept if after.index(item) != before.index(item))
    if not came and not gone and not moved:
        return "The next answer is the same."
    said = [f"{len(came)} new ({', '.join(came[:3])}{' …' if len(came) > 3 else ''})"] if came else []
    said += [f"{len(gone)} gone ({', '.join(gone[:3])}{' …' if len(gone) > 3 else ''})"] if gone else []
    said += [f"{moved} moved"] if moved else []
    return "The next answer changed: " + "; ".join(said) + "."


def item_facts(categories: Sequence[str], price: float | None) -> str:
    """Return categories and price of an item as one line."""
    found = [", ".join(categories)] if categories else []
    return " · ".join(found + ([show.price(price)] if price is not None else []))


def offers(slate: wire.Slate, name: str, *, new: Sequence[str] = (), badge: str = "new", act: Act | None = None) -> None:
    """Show an answer.

    Parameters
    ----------
    name
        What it is, for screen readers.
    new
        Ids that get a badge.
    act
        Puts something to press under each item.
    """
    if not slate.items:
        parts.text("Nothing fits: loosen the filters.", classes="soft")
        return
    with parts.box("ol", "offers", aria_label=name):
        for item in slate.items:
            with parts.box("li"):
                parts.text(str(item.position), "span", "rank")
                parts.thumb(item.image)
                with parts.box("div", "body"):
                    with parts.box("div"):
                        parts.link(item.title, show.address("items", item=item.id))
                        if item.id in new:
                            parts.text(badge, "span", "badge")
                    parts.text(item_facts(item.categories, item.price), "div", "soft small")
                    parts.text(why(item.why), "div", "small" if item.why else "soft small")
                    if item.sources:
                        named = ", ".join(f"{origin.source} (rank {origin.rank})" for origin in item.sources)
                        moved = f"; {'; '.join(item.moves)}" if item.moves else ""
                        parts.text(f"From {named}{moved}", "div", "soft small")
                    if act is not None:
                        with parts.box("div", "act"):
                            act(item)


def scored(found: wire.ScoredList, caption: str, act: Callable[[wire.Scored], None] | None = None) -> None:
    """Show items in order, as a table."""
    rows: list[list[parts.Cell]] = [
        [
            lambda item=item: parts.link(item.title, show.address("items", item=item.id)),  # type: ignore[misc]
            ", ".join(item.categories),
            show.price(item.price),
            show.number(item.score, 3),
            *([lambda item=item: act(item)] if act is not None else []),
        ]
        for item in found.items
    ]
    heads = ["Item", "Categories", "Price", "Score", *(["Action"] if act is not None else [])]
    parts.table(caption, heads, rows, right=(2, 3), empty="Nothing was found.")
