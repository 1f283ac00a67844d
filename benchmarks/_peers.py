"""Peers run in their own pinned environments, as workers that answer one call at a time, so that both sides alternate."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOME = HERE / ".peers"


def peer_python(name: str) -> Path:
    """Return the interpreter of a peer's environment, made from ``benchmarks/peers/NAME.txt`` when it is not there.

    Each paragraph of that file is one call of pip (torch comes first and alone).
    """
    folder = HOME / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pins = (HERE / "peers" / f"{name}.txt").read_text(encoding="utf-8")
    done = folder / "pins.txt"
    if not done.exists() or done.read_text(encoding="utf-8") != pins:
        print(f"making the environment of {name} …", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        for paragraph in pins.split("\n\n"):
            words = [w for line in paragraph.splitlines() if not line.startswith("#") for w in line.split()]
            if words:
                subprocess.run([str(python), "-m", "pip", "install", "-q", *words], check=True)
        done.write_text(pins, encoding="utf-8")
    return python


class Worker:
    """A peer's program, kept alive between calls.

    The program reads JSON lines ``{"call": name, ...}`` and answers each with one line ``@{json}``; everything else that it
    prints is ignored (see ``benchmarks/peers/_serve.py``).
    """

    def __init__(self, name: str, program: str, env: dict[str, str] | None = None) -> None:
        import os

        command = [str(peer_python(name)), str(HERE / "peers" / program)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=HOME / name,
        )

    def __call__(self, call: str, **arguments: Any) -> Any:
        """Run one function of the peer's program and return its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@"):
                answer = json.loads(line[1:])
                if "error" in answer:
                    raise RuntimeError(f"the peer failed: {answer['error']}")
                return answer["value"]
        raise RuntimeError(f"the peer ended with exit code {self.process.wait()}")

    def close(self) -> None:
        """End the peer."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)
