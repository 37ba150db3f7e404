"""A PostgreSQL server of the tests' own, in a temporary directory."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import services
from .processes import HOST, ChildProcess, free_port


class PostgresServer:
    """A cluster that trusts local connections and never waits for a disk.

    PostgreSQL refuses to run as root: root runs it as the user ``postgres``, whom its packages
    create.
    """

    user = "postgres"

    def __init__(self) -> None:
        self.port = free_port()
        self._programs = services.locate("postgresql")
        self._run_as = "postgres" if os.geteuid() == 0 else None
        self._process: ChildProcess | None = None
        self._directory: Path | None = None

    def start(self) -> None:
        """Create the cluster and wait until it accepts connections."""
        self._directory = Path(tempfile.mkdtemp(prefix="wsrealtime-postgres-"))
        if self._run_as:
            shutil.chown(self._directory, self._run_as, self._run_as)
        data = self._directory / "data"
        self._initialise(data)
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._process = ChildProcess(
            [str(self._programs / "postgres"), "-D", str(data), "-p", str(self.port), *options],
            name=f"postgres on {self.port}",
            log=self._directory / "postgres.log",
            cwd=self._directory,
            user=self._run_as,
        )
        self._process.wait_ready(self._is_ready)

    def _initialise(self, data: Path) -> None:
        finished = subprocess.run(
            [
                str(self._programs / "initdb"),
                *("-D", str(data), "-U", self.user, "-A", "trust", "-E", "UTF8"),
                *("--locale=C", "--no-sync"),
            ],
            cwd=data.parent,
            user=self._run_as,
            group=self._run_as,
            extra_groups=[] if self._run_as else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            raise RuntimeError(f"initdb failed:\n{finished.stdout}\n{finished.stderr}")

    def _is_ready(self) -> bool:
        asked = subprocess.run(
            [str(self._programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)],
            check=False,
        )
        return asked.returncode == 0

    def stop(self) -> None:
        """End the server and remove its files."""
        if self._process is not None:
            self._process.terminate()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
