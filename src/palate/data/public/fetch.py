"""Fetch files from their owners: a temporary folder, a checked hash, then a rename; archives are unpacked first."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from palate.data.public.entry import Download, PublicData
from palate.errors import DataError
from palate.progress import Progress, ProgressEvent, silent

BLOCK = 1 << 18
SECONDS = 20
#: The copy of ml-100k that the RecBole wheel carries: package, folder inside it, SHA-256 of its files.
WHEEL = ("recbole==1.2.1", "recbole/dataset_example/ml-100k/")
WHEEL_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
    "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}


def fetch(data: PublicData, target: Path, progress: Progress = silent) -> Path:
    """Put a data set's files into ``target``, whole or not at all.

    Raises
    ------
    DataError
        If no source can be reached, or a hash is not the published one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        try:
            for file in data.downloads:
                _download(file, work, progress)
        except urllib.error.URLError as error:
            if data.name != "ml-100k":
                raise _unreachable(data, error) from None
            _from_wheel(work, progress)
        _unpack(work)
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _unreachable(data: PublicData, error: Exception) -> DataError:
    return DataError(
        f"{data.title} can't be fetched.",
        where=data.downloads[0].url if data.downloads else data.url,
        value=str(getattr(error, "reason", error)),
        remedy=f"download it from {data.url}, and put it into PALATE_DATA/{data.folder or data.name}",
    )


def _download(file: Download, folder: Path, progress: Progress) -> None:
    path = folder / file.url.rsplit("/", 1)[-1]
    kind, _, expected = file.checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False) if kind else None
    request = urllib.request.Request(file.url, headers={"User-Agent": "palate"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer, path.open("wb") as out:
            total = int(answer.headers.get("Content-Length") or 0) or None
            done = 0
            while block := answer.read(BLOCK):
                out.write(block)
                done += len(block)
                if digest is not None:
                    digest.update(block)
                progress(ProgressEvent(f"Download {path.name} (bytes)", done, total))
    except (TimeoutError, ConnectionError) as error:
        raise urllib.error.URLError(error) from None
    if digest is not None and digest.hexdigest() != expected:
        raise DataError(
            "the file fetched is not the published one.",
            where=file.url,
            value=digest.hexdigest(),
            remedy=f"expected {file.checksum}; try again, or download it by hand",
        )


def _from_wheel(folder: Path, progress: Progress) -> None:
    """Take ml-100k from the RecBole wheel, opened as a zip, never imported."""
    package, inside = WHEEL
    progress(ProgressEvent(f"Fetch {package} for its copy of ml-100k", 0, 1))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise DataError(
            "MovieLens 100K can't be fetched: neither its owner nor the package registry answers.",
            where=package,
            value=(done.stderr.strip().splitlines() or ["no wheel"])[-1],
            remedy="download ml-100k.zip by hand, unpack it, and set PALATE_DATA to the folder above ml-100k",
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        for name, expected in WHEEL_FILES.items():
            content = archive.read(inside + name)
            if hashlib.sha256(content).hexdigest() != expected:
                raise DataError("the wheel's copy of ml-100k was changed.", where=f"{package}: {inside}{name}")
            (folder / name).write_bytes(content)
    wheels[0].unlink()
    progress(ProgressEvent(f"Fetch {package} for its copy of ml-100k", 1, 1))


def _unpack(folder: Path) -> None:
    """Unpack archives in place, and lift a lone folder's content up."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
            path.unlink()
        elif path.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            path.unlink()
        elif path.suffix == ".gz":
            with gzip.open(path) as packed, path.with_suffix("").open("wb") as out:
                shutil.copyfileobj(packed, out)
            path.unlink()
    inside = [p for p in folder.iterdir() if not p.name.startswith((".", "__"))]
    if len(inside) == 1 and inside[0].is_dir():
        for path in inside[0].iterdir():
            path.rename(folder / path.name)
        inside[0].rmdir()
