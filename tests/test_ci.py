"""Continuous integration: what it runs, that it leaves nothing out, and its audit of dependencies without a network."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CI = Path(__file__).parent.parent / ".ci"


def test_it_sets_what_tests_look_at_and_keeps_screenshots(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(CI / "run", tmp_path / ".ci" / "run")
    (tmp_path / "test-output").mkdir()
    (tmp_path / "test-output" / "old").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("make", 'echo "$1 $CI $PALATE_SCREENSHOTS"'), ("chromium", "")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "PALATE_SCREENSHOTS", "PALATE_CHROMIUM")}
    done = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={**kept, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    place = tmp_path / "test-output" / "screenshots"
    assert done.stdout.splitlines() == [f"audit true {place}", f"test true {place}"]
    assert not (tmp_path / "test-output" / "old").exists()


def test_an_absent_tool_is_told_and_fails_in_continuous_integration(
    left_out: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such server"):
        left_out("no such server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such server"):
        left_out("no such server")


def test_what_is_left_out_is_told_in_one_line_a_reason(pytestconfig: pytest.Config) -> None:
    hooks = pytestconfig.hook.pytest_terminal_summary.get_hookimpls()
    summary = next(
        hook.function for hook in hooks if hook.function.__globals__["__file__"] == str(CI.parent / "tests/conftest.py")
    )
    reasons = ["Skipped: no such server", "Skipped: too old", "Skipped: no such server"]
    reports = [SimpleNamespace(longrepr=("place.py", at, reason)) for at, reason in enumerate(reasons)]
    told: list[str] = []
    summary(terminalreporter=SimpleNamespace(stats={"skipped": reports}, write_line=told.append))
    assert told == ["2 skipped: no such server", "1 skipped: too old"]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The audit, over two pins, with a record of its own."""
    spec = importlib.util.spec_from_file_location("palate_ci_audit", CI / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "constraints.txt").write_text("# pins\nSome_Thing==1.0\nother==2.0  # a word\n")
    monkeypatch.setattr(module, "PINS", tmp_path / "constraints.txt")
    monkeypatch.setattr(module, "RECORD", tmp_path / "audited.json")
    monkeypatch.setattr(module, "COPY_RECORD", tmp_path / "audited-copy.json")
    monkeypatch.delenv("PALATE_AUDIT", raising=False)
    return module


def _run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, packages: list[Any] | str, *words: str) -> int:
    """Run the audit with an answer of pip-audit (or what it complains of)."""
    out, complaint = (json.dumps({"dependencies": packages}), "") if isinstance(packages, list) else ("", packages)
    done = subprocess.CompletedProcess([], 0, out, complaint)
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: done)
    monkeypatch.setattr(module.sys, "argv", ["audit.py", *words])
    return module.main()


GOOD = [{"name": "some-thing", "version": "1.0", "vulns": []}, {"name": "other", "skip_reason": "not there"}]
FLAW = {"id": "PYSEC-1", "fix_versions": ["1.1"]}


def test_a_flaw_fails_and_is_named(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert _run(audit, monkeypatch, [{**GOOD[0], "vulns": [FLAW]}, GOOD[1]], "--record") == 1
    said = capsys.readouterr().out
    assert "some-thing 1.0: PYSEC-1 (fixed in 1.1)" in said and "The list lacks: other" in said
    assert not audit.RECORD.exists(), "what has flaws is no clean record"


def test_a_list_out_of_reach_is_loud_and_fails_only_where_it_is_required(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    nothing = [{"name": name, "skip_reason": "not there"} for name in ("some-thing", "other")]
    for answer in (nothing, "... ConnectionError: no route"):
        monkeypatch.delenv("PALATE_AUDIT", raising=False)
        assert _run(audit, monkeypatch, answer) == 0
        assert "NOT AUDITED" in (said := capsys.readouterr().out) and "No audit of these pins is on record" in said
        monkeypatch.setenv("PALATE_AUDIT", "required")
        assert _run(audit, monkeypatch, answer) == 1
    monkeypatch.delenv("PALATE_AUDIT")
    assert _run(audit, monkeypatch, "Traceback: a fault of its own") == 1


def test_the_last_audit_is_remembered(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert _run(audit, monkeypatch, GOOD, "--record") == 0
    assert json.loads(audit.RECORD.read_text())["audited"] == {"some-thing": "1.0"}
    capsys.readouterr()
    assert _run(audit, monkeypatch, "ServiceError") == 0
    assert "(0 days ago, 1 packages; not among them: other)" in capsys.readouterr().out
    audit.PINS.write_text("some-thing==1.0\n")
    assert _run(audit, monkeypatch, "ServiceError") == 0
    assert "none was changed since" in capsys.readouterr().out


def test_where_the_list_is_reached_it_decides_and_a_record_out_of_date_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert _run(audit, monkeypatch, GOOD) == 0
    assert "no audit of these pins is on record" in capsys.readouterr().out
    assert _run(audit, monkeypatch, GOOD, "--record") == _run(audit, monkeypatch, GOOD) == 0
    assert "out of date" not in capsys.readouterr().out, "a package that the list lacks is on record as such"
    audit.PINS.write_text("some-thing==1.0\nother==2.1\n")
    assert _run(audit, monkeypatch, GOOD) == 0
    assert "pinned since" in (said := capsys.readouterr().out) and ": other." in said
    assert _run(audit, monkeypatch, GOOD, "--record") == 0
    known = json.loads(audit.RECORD.read_text())
    audit.RECORD.write_text(json.dumps({**known, "date": (date.today() - timedelta(days=40)).isoformat()}))
    assert _run(audit, monkeypatch, GOOD) == 0
    assert "40 days old" in capsys.readouterr().out
    assert _run(audit, monkeypatch, [{**GOOD[0], "vulns": [FLAW]}, GOOD[1]]) == 1, "a record excuses nothing"


ADVISORY = """\
id: PYSEC-2024-7
modified: '2024-03-02T00:00:00Z'
affected:
- package: {ecosystem: PyPI, name: Some.Thing}
  ranges:
  - type: ECOSYSTEM
    events: [%s]
  versions: [%s]
"""


@pytest.mark.parametrize(
    ("events", "versions", "fits"),
    [
        ('introduced: "0"', "0.9", True),
        ('introduced: "0"}, {fixed: "1.0"', "0.9", False),
        ('introduced: "0"}, {fixed: "1.0.1"', "0.9", True),
        ("introduced: 0.5}, {last_affected: 0.10", "0.9", False),
        ("introduced: 0.5}, {fixed: 0.6}, {introduced: 0.9}, {fixed: 1.10", "", True),
        ("introduced: 1.1", "", False),
        ("introduced: 1.1", "1.0", True),
    ],
)
def test_a_copy_of_the_advisories_is_looked_in_and_its_age_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path, events: str, versions: str, fits: bool
) -> None:
    place = tmp_path / "copy" / "vulns" / "some-thing" / "PYSEC-2024-7.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(ADVISORY % (f"{{{events}}}", versions))
    monkeypatch.setattr(audit.sys, "argv", ["audit.py", "--copy", str(tmp_path / "copy"), "--record"])
    assert audit.main() == fits
    said = capsys.readouterr().out
    assert "as of 2024-03-02" in said and ("some-thing 1.0: PYSEC-2024-7" in said) == fits
    assert audit.COPY_RECORD.exists() != fits and not audit.RECORD.exists(), "a copy is no audit"
    assert _run(audit, monkeypatch, "ServiceError") == 0
    assert ("It says nothing of what became known after 2024-03-02." in capsys.readouterr().out) != fits


def test_a_folder_that_is_no_copy_of_the_advisories_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit.sys, "argv", ["audit.py", "--copy", str(tmp_path)])
    assert audit.main() == 1
    assert "NOT LOOKED UP" in capsys.readouterr().out


def test_the_records_in_the_repository_are_of_pins_and_days(audit: ModuleType) -> None:
    known = json.loads((CI / "audited-copy.json").read_text())
    assert date.fromisoformat(known["newest"]) <= date.fromisoformat(known["date"])
    assert known["looked_up"] and known["advisories"] > 0
