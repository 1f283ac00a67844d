"""An answer as a list to read: pictures, titles, reasons, what to press, and what changed since the answer before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from palate.console import format as show
from palate.console import parts
from palate.serve import wire

#: Puts something to press under an item.
Act = Callable[[wire.Offered], None]


def why(reasons: Sequence[wire.Reason] | None) -> str:
    """Return the reasons of an item as one sentence."""
    if not reasons:
        return "The model gives no reason."
    liked = [r for r in reasons if r.kind == "history" and r.weight > 0]
    if liked:
        total = sum(r.weight for r in liked)
        return "Because of " + ", ".join(f"{r.text} ({r.weight / total:.0%})" for r in liked[:3]) + "."
    popular = next((r for r in reasons if r.kind == "popularity"), None)
    if popular is not None:
        return f"Chosen {show.counted(round(popular.weight), 'time')} by others."
    return "No single reason stands out."


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
