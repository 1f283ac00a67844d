"""Look the pinned dependencies up in PyPI's list of known vulnerabilities; end with 1 if one of them has any.

Where the list can't be reached, that is said loudly, with the date of the last audit and what has been pinned since, and the
run goes on, so that a network without the list can still test. ``PALATE_AUDIT=required`` ends it with 1: set it wherever the
list ought to be reachable, and before a release. ``--record`` keeps a clean audit in ``audited.json`` beside this file.
A package that the list doesn't know (its version is of another index) is named, not passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints.txt"
RECORD = Path(__file__).with_name("audited.json")
#: What pip-audit says on its error stream where it met no list at all.
UNREACHED = ("ConnectionError", "ServiceError")


def main() -> int:
    """Audit, print one line a finding and one for all, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep a clean audit in audited.json")
    given = parser.parse_args()
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
    if given.record and not found:
        facts = {"date": datetime.now(UTC).date().isoformat(), "audited": dict(sorted(looked.items())), "unknown": unknown}
        RECORD.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(bool(found))


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
    print("=" * 100)
    required = os.environ.get("PALATE_AUDIT") == "required"
    if required:
        print("PALATE_AUDIT=required: this fails")
    return int(required)


def last_audit() -> str:
    """Return when the pins were audited last, and how many have changed since."""
    if not RECORD.exists():
        return "No audit of these pins is on record (make one where it is: python .ci/audit.py --record)."
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    days = (datetime.now(UTC).date() - datetime.fromisoformat(known["date"]).date()).days
    new = sorted(name for name, version in pins().items() if known["audited"].get(name) != version)
    since = f"; not among them: {', '.join(new)}" if new else "; none was changed since"
    return f"The last audit is of {known['date']} ({days} days ago, {len(known['audited'])} packages{since})."


def pins() -> dict[str, str]:
    """Return the pinned version of each package, by its normal name."""
    lines = (line.partition("#")[0].strip() for line in PINS.read_text(encoding="utf-8").splitlines())
    parts = (line.partition("==") for line in lines)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, _, version in parts if version}


if __name__ == "__main__":
    sys.exit(main())
