"""Look systems up by name, our own and those that other packages register under ``palate.systems``."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.catalog.baselines import BASELINES
from palate.catalog.papers import PAPERS
from palate.catalog.system import System
from palate.errors import ConfigError, nearest

if TYPE_CHECKING:
    from palate.contracts.bundle import Bundle

#: Entry-point group; each entry point loads a :class:`System` (or a list of them).
GROUP = "palate.systems"


@cache
def systems() -> dict[str, System]:
    """Return every system by name: baselines, papers, then those of other packages.

    Raises
    ------
    ConfigError
        If a package that registers systems can't be loaded, or names one like a system that there is already.
    """
    rows = {system.name: system for system in (*BASELINES, *PAPERS)}
    for entry in metadata.entry_points(group=GROUP):
        for system in _registered(entry):
            if system.name in rows:
                raise ConfigError(
                    "two systems have the same name.", where=_place(entry), value=system.name, remedy="rename one"
                )
            rows[system.name] = system
    return rows


def _registered(entry: metadata.EntryPoint) -> list[System]:
    """Return the systems of one entry point: a :class:`System`, or several."""
    try:
        loaded = entry.load()
        found = [loaded] if isinstance(loaded, System) else list(loaded)
    except Exception as error:
        what, remedy = "a package's systems can't be loaded.", "update that package, or uninstall it"
        raise ConfigError(what, where=_place(entry), value=f"{type(error).__name__}: {error}", remedy=remedy) from error
    strange = [type(system).__name__ for system in found if not isinstance(system, System)]
    if strange:
        remedy = "register a palate.catalog.system.System, or a list of them"
        raise ConfigError("this is no row of the catalogue.", where=_place(entry), value=strange[0], remedy=remedy)
    return found


def _place(entry: metadata.EntryPoint) -> str:
    package = "" if entry.dist is None else f" of {entry.dist.name}"
    return f"entry point {entry.name} = {entry.value}{package}"


#: What to do with systems of another verb than the one that is asked for.
ELSEWHERE = {
    "recommend": "it answers from events: palate split SOURCE --out DIR, then palate fit, recommend, compare",
    "rank": "it ranks rows: palate split FILE --label COLUMN --out DIR, then palate fit, evaluate, compare, predict "
    "(--reasons N says why)",
    "explore": "it chooses slates: palate fit, then palate act; policies are compared by palate.study.tune_policy.tune_policy",
}


def get(name: str, verb: str | None = None) -> System:
    """Return a system that works, or say what is wrong with the name.

    Parameters
    ----------
    verb
        Which question it must answer, where only one will do.
    """
    known = systems()
    if name not in known:
        working = [n for n, s in known.items() if s.status == "works"]
        raise ConfigError("unknown system.", value=name, remedy=nearest(name, working) + " (see: palate models)")
    if known[name].status != "works":
        raise ConfigError("this system is planned, not built yet.", value=name, remedy="see: palate models")
    if verb is not None and known[name].verb != verb:
        what = f"this system can't {verb}: its verb is {known[name].verb}."
        raise ConfigError(what, value=name, remedy=ELSEWHERE.get(known[name].verb, "see: palate models"))
    return known[name]


def create(name: str, **settings: Any) -> Any:
    """Make an unfitted model by name."""
    return get(name).load()(**settings)


def load(folder: str | Path, verb: str | None = None) -> Any:
    """Load the model of a bundle, whichever system it is (of one verb, where only that will do)."""
    from palate.contracts.bundle import read_bundle, read_manifest

    if verb is not None:
        get(str(read_manifest(folder)["system"]), verb)
    return restored(read_bundle(folder), where=folder)


def restored(bundle: Bundle, *, where: str | Path = "") -> Any:
    """Return the model of a bundle that was read, whichever system it is."""
    return get(str(bundle.manifest["system"])).load().from_bundle(bundle, where=where)
