"""Fetch files from their owners: a temporary folder, a checked hash, then a rename; archives are unpacked first."""

from __future__ import annotations

import hashlib
import http.client
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


class Unreachable(Exception):
    """A file can't be had from its place (no route, no answer, no such file, or cut off)."""


def fetch(data: PublicData, target: Path, progress: Progress = silent) -> Path:
    """Put a data set's files into ``target``, whole or not at all; the licence is shown first, as a step of progress.

    MovieLens 100K is taken from the RecBole wheel where its owner can't be reached.

    Raises
    ------
    DataError
        If no source can be reached, a hash is not the published one, or an archive is damaged.
    """
    progress(ProgressEvent(f"{data.title}: {data.licence}", 0, 1))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _fill(data, work, progress)
        work.chmod(0o755)
        if target.exists():
            target.rename(old := work.with_name(work.name + "-old"))
            shutil.rmtree(old, ignore_errors=True)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _fill(data: PublicData, work: Path, progress: Progress) -> None:
    try:
        for file in data.downloads:
            _download(file, work, progress)
    except Unreachable as error:
        for path in work.iterdir():
            path.unlink()
        if data.name != "ml-100k":
            raise _lost(data, error) from None
        _from_wheel(work, progress)
    _unpack(work)


def _lost(data: PublicData, error: Unreachable) -> DataError:
    return DataError(
        f"{data.title} can't be fetched.",
        where=data.downloads[0].url if data.downloads else data.url,
        value=str(error),
        remedy=by_hand(data),
    )


def by_hand(data: PublicData) -> str:
    """Return how to get a data set without us."""
    markers = " or ".join(layout.marker for layout in data.layouts)
    return (
        f"get it from {data.url}, put it into a folder {data.place} (with {markers}), and set PALATE_DATA to the folder above"
    )


def _download(file: Download, folder: Path, progress: Progress) -> None:
    path = folder / file.url.rsplit("/", 1)[-1]
    request = urllib.request.Request(file.url, headers={"User-Agent": "palate"})
    done, total = 0, None
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer, path.open("wb") as out:
            total = int(answer.headers.get("Content-Length") or 0) or None
            while block := answer.read(BLOCK):
                out.write(block)
                done += len(block)
                progress(ProgressEvent(f"Download {path.name} (bytes)", done, total))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise Unreachable(str(getattr(error, "reason", error)) or type(error).__name__) from None
    if total is not None and done != total:
        raise Unreachable(f"cut off after {done:,} of {total:,} bytes")
    _check(path, file)


def _check(path: Path, file: Download) -> None:
    kind, _, expected = file.checksum.partition(":")
    if not kind:
        return
    found = checksum(path, kind)
    if found != expected:
        remedy = f"expected {file.checksum}; try again, or download it by hand and compare with the owner's page"
        raise DataError("the file fetched is not the published one.", where=file.url, value=f"{kind}:{found}", remedy=remedy)


def checksum(path: Path, kind: str) -> str:
    """Return a file's hash: ``md5``, ``sha256``, or ``git`` (the id of its content in a git repository)."""
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _from_wheel(folder: Path, progress: Progress) -> None:
    """Take ml-100k from the RecBole wheel, opened as a zip, never imported."""
    package, _ = WHEEL
    progress(ProgressEvent(f"Fetch {package} for its copy of ml-100k", 0, 1))
    options = [
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    command = [sys.executable, "-m", "pip", "download", *options, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise DataError(
            "MovieLens 100K can't be fetched: neither its owner nor the package registry answers.",
            where=package,
            value=(done.stderr.strip().splitlines() or ["no wheel"])[-1],
            remedy="download ml-100k.zip by hand, unpack it, and set PALATE_DATA to the folder above ml-100k",
        )
    take_from_wheel(wheels[0], folder)
    wheels[0].unlink()
    progress(ProgressEvent(f"Fetch {package} for its copy of ml-100k", 1, 1))


def take_from_wheel(wheel: Path, folder: Path) -> None:
    """Copy ml-100k's files out of the wheel, and check each by its hash.

    Raises
    ------
    DataError
        If the wheel lacks a file, or holds another than expected.
    """
    package, inside = WHEEL
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in WHEEL_FILES.items():
                content = archive.read(inside + name)
                if hashlib.sha256(content).hexdigest() != expected:
                    raise DataError("the wheel's copy of ml-100k was changed.", where=f"{package}: {inside}{name}")
                (folder / name).write_bytes(content)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError("the wheel does not hold ml-100k.", where=package, value=str(error)) from None


def _unpack(folder: Path) -> None:
    """Unpack archives in place, and lift a lone folder's content up; plain ``.gz`` files stay packed."""
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
                path.unlink()
            elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
                with tarfile.open(path) as archive:
                    archive.extractall(folder, filter="data")
                path.unlink()
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
            raise DataError("the archive fetched is damaged.", where=path.name, value=str(error), remedy="try again") from None
    inside = [p for p in folder.iterdir() if not p.name.startswith((".", "__"))]
    if len(inside) == 1 and inside[0].is_dir():
        lone = inside[0].rename(folder / ".lone")
        for path in lone.iterdir():
            path.rename(folder / path.name)
        lone.rmdir()
