"""Every example of the documentation runs: Python blocks of a page in one namespace, console blocks as commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/**/*.md")))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, int]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [(m[1], m[2], text[: m.start()].count("\n") + 2) for m in BLOCK.finditer(text)]


def test_there_are_examples() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 10


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "claims", tmp_path / "claims")  # pages speak of a checkout
    module = type(sys)("example")
    monkeypatch.setitem(sys.modules, "example", module)
    for kind, text, line in blocks(page):
        if kind == "python":
            code = compile("\n" * (line - 1) + text, str(ROOT / page), "exec")
            exec(code, module.__dict__)
        else:
            for command in text.splitlines():
                run_command(command, f"{page}:{line}")


def run_command(command: str, where: str) -> None:
    assert command.startswith("$ palate "), f"{where}: console lines start with '$ palate': {command!r}"
    words = [sys.executable, "-m", "palate.cli.main", *shlex.split(command)[2:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: {command}\n{done.stdout}\n{done.stderr}"
