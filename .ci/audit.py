"""Look the pinned dependencies up in PyPI's list of known vulnerabilities; end with 1 if one of them has any.

Where the list is reached, what it says now decides. ``--record`` keeps a clean audit in ``audited.json`` beside this file, to
be committed for networks without the list: there it is said loudly that nothing was audited, with the date of the last audit
and what has been pinned since, and the run goes on, so that such a network can still test. ``PALATE_AUDIT=required`` ends it
with 1: set it wherever the list ought to be reachable, and before a release.
A package that the list doesn't know (its version is of another index) is named, not passed over.

``--copy DIR`` looks the pins up in a copy of PyPA's advisory database (``git clone`` of pypa/advisory-database) instead, and
with ``--record`` keeps that in ``audited-copy.json``. It is no audit: a copy knows nothing that was published after it was
made, which is why its date is told whenever it is spoken of.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints.txt"
RECORD = Path(__file__).with_name("audited.json")
COPY_RECORD = Path(__file__).with_name("audited-copy.json")
#: Age of a record, in days, from which it is to be made anew.
DAYS = 30
#: What pip-audit says on its error stream where it met no list at all.
UNREACHED = ("ConnectionError", "ServiceError")


def main() -> int:
    """Audit, print one line a finding and one for all, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep a clean audit in audited.json")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="a copy of PyPA's advisory database to look in instead")
    given = parser.parse_args()
    if given.copy is not None:
        return look_in_copy(given.copy, record=given.record)
    packages, trouble = ask()
    looked = {p["name"]: p["version"] for p in packages if "skip_reason" not in p}
    unknown = sorted(p["name"] for p in packages if "skip_reason" in p)
    if not looked:
        return unreached(trouble)
    found = [(package, flaw) for package in packages for flaw in package.get("vulns", [])]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {flaw['id']} (fixed in {fixed})")
    print(f"{len(looked)} packages audited, {len(found)} known vulnerabilities, {len(unknown)} packages that the list lacks")
    if unknown:
        print(f"The list lacks: {', '.join(unknown)}")
    if found:
        return 1
    if given.record:
        pinned = pins()
        write(RECORD, audited=dict(sorted(looked.items())), unknown={name: pinned.get(name) for name in unknown})
        return 0
    if (stale := out_of_date()) is not None:
        print(f"The record for networks without the list is out of date: {stale}. Make it anew: make audit AUDIT_ARGS=--record")
    return 0


def write(place: Path, **facts: Any) -> None:
    """Keep the facts of a clean audit, with its date."""
    facts = {"date": datetime.now(UTC).date().isoformat(), **facts}
    place.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def ask() -> tuple[list[dict[str, Any]], str]:
    """Return what pip-audit says of each pin, and its complaint where it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json"], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (json.JSONDecodeError, KeyError):
        return [], done.stderr.strip()[-500:] or f"pip-audit ended with {done.returncode}"


def unreached(trouble: str) -> int:
    """Say that nothing was audited, and how old the last audit is; return the exit code."""
    if trouble and not any(word in trouble for word in UNREACHED):
        print(f"NOT AUDITED: pip-audit failed.\n{trouble}")
        return 1
    print("=" * 100)
    print(f"NOT AUDITED: the list of vulnerabilities is not reachable from here. {last_audit()}")
    if COPY_RECORD.exists():
        print(last_copy())
    print("=" * 100)
    required = os.environ.get("PALATE_AUDIT") == "required"
    if required:
        print("PALATE_AUDIT=required: this fails")
    return int(required)


def last_audit() -> str:
    """Return when the pins were audited last, and which have changed since."""
    if not RECORD.exists():
        return "No audit of these pins is on record (make one where it is: make audit AUDIT_ARGS=--record)."
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    new = unlike(known["audited"])
    since = f"; not among them: {', '.join(new)}" if new else "; none was changed since"
    return f"The last audit is of {known['date']} ({age(known)} days ago, {len(known['audited'])} packages{since})."


def out_of_date() -> str | None:
    """Return why the record has to be made anew, or ``None``."""
    if not RECORD.exists():
        return "no audit of these pins is on record"
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    new = unlike({**known["audited"], **known["unknown"]})
    if new:
        return f"pinned since {known['date']}: {', '.join(new)}"
    return f"it is {age(known)} days old" if age(known) > DAYS else None


def unlike(known: Mapping[str, str]) -> list[str]:
    """Return the packages that are pinned to another version than is known."""
    return sorted(name for name, version in pins().items() if known.get(name) != version)


def age(known: Mapping[str, Any]) -> int:
    """Return how many days ago a record was made."""
    return (datetime.now(UTC).date() - datetime.fromisoformat(known["date"]).date()).days


def look_in_copy(folder: Path, *, record: bool) -> int:
    """Look the pins up in a copy of PyPA's advisory database, print what is found, and return the exit code."""
    about = list(advisories(folder))
    if not about:
        print(f"NOT LOOKED UP: {folder} holds no advisory on any pinned package; is it a copy of pypa/advisory-database?")
        return 1
    newest, pinned = newest_day(folder), pins()
    found = [(name, advisory) for name, advisory, affected in about if affects(affected, pinned[name])]
    for name, advisory in found:
        print(f"{name} {pinned[name]}: {advisory}")
    print(f"{len(pinned)} packages looked up among {len(about)} advisories on them, as of {newest}: {len(found)} fit")
    if record and not found:
        write(COPY_RECORD, newest=newest, advisories=len(about), looked_up=dict(sorted(pinned.items())))
    return int(bool(found))


def newest_day(folder: Path) -> str:
    """Return the day on which an advisory of a copy was changed last: as far as the copy can know."""
    texts = (place.read_text(encoding="utf-8") for place in folder.glob("vulns/*/*.yaml"))
    return max(day for text in texts for day in re.findall(r"^modified: [\"']?(\d{4}-\d\d-\d\d)", text, re.MULTILINE))


def advisories(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield package, id and what is affected (OSV) of every valid advisory on a pinned package."""
    import yaml

    pinned = pins()
    for place in sorted(folder.glob("vulns/*/*.yaml")):
        if normal(place.parent.name) not in pinned:
            continue
        told = yaml.load(place.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # texts only: 3.10 is no number
        if "withdrawn" in told:
            continue
        for affected in told.get("affected", []):
            if normal(affected["package"]["name"]) in pinned:
                yield normal(affected["package"]["name"]), told["id"], affected


def affects(affected: dict[str, Any], version: str) -> bool:
    """Say whether a version is among those that an advisory (OSV) lists, or within one of its ranges."""
    from packaging.version import Version

    pinned = Version(version)
    if version in affected.get("versions", []):
        return True
    for span in affected.get("ranges", []):
        inside = False
        for event in span["events"] if span["type"] == "ECOSYSTEM" else []:
            ((kind, at),) = event.items()
            if kind == "introduced":
                inside = inside or at == "0" or Version(at) <= pinned
            elif kind == "fixed":
                inside = inside and pinned < Version(at)
            elif kind == "last_affected":
                inside = inside and pinned <= Version(at)
        if inside:
            return True
    return False


def last_copy() -> str:
    """Return what a copy of the advisories said of the pins, how old it was, and which pins it was not asked about."""
    known = json.loads(COPY_RECORD.read_text(encoding="utf-8"))
    new = unlike(known["looked_up"])
    but = f" Not looked up: {', '.join(new)}." if new else ""
    return (
        f"A copy of PyPA's advisories up to {known['newest']} has none that fits the pins ({len(known['looked_up'])} looked up "
        f"on {known['date']}).{but} It says nothing of what became known after {known['newest']}."
    )


def pins() -> dict[str, str]:
    """Return the pinned version of each package, by its normal name."""
    lines = (line.partition("#")[0].strip() for line in PINS.read_text(encoding="utf-8").splitlines())
    parts = (line.partition("==") for line in lines)
    return {normal(name): version for name, _, version in parts if version}


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub("[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
