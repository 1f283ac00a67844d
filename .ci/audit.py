"""Look the pinned dependencies up in PyPI's list of known vulnerabilities; end with 1 if one of them has any.

A package that can't be looked up (the list is not reachable, or the version is of another index) is counted, not passed over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent.parent / "constraints.txt"


def main() -> int:
    """Audit, print one line a finding and one for all, and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json"], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print(f"NOT AUDITED: pip-audit gave no answer.\n{done.stderr.strip()[-500:]}")
        return 0 if "ConnectionError" in done.stderr or "ServiceError" in done.stderr else 1
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [(package, flaw) for package in packages for flaw in package.get("vulns", [])]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {flaw['id']} (fixed in {fixed})")
    looked = len(packages) - len(unknown)
    print(f"{looked} packages audited, {len(found)} known vulnerabilities, {len(unknown)} packages that could not be looked up")
    if not looked:
        print("NOT AUDITED: the list of vulnerabilities is not reachable from here")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
