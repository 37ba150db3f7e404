"""Child processes that never outlive the tests that started them."""

import atexit
import os
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .waiting import wait_until

HOST = "127.0.0.1"
_LOG_TAIL = 16_000  # bytes of a log shown in an error
_running: "weakref.WeakSet[ChildProcess]" = weakref.WeakSet()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def is_running(pid: int) -> bool:
    """Whether a process with this id exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_databases_of_the_dead(directory: Path) -> None:
    """Remove ``<pid>-…`` files of processes that ended without cleaning up."""
    for path in directory.glob("*-*.sqlite3*"):
        pid = path.name.split("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            path.unlink(missing_ok=True)


class ProcessDied(RuntimeError):
    """A child ended before it was ready; the message holds the end of its log."""


class ChildProcess:
    """A program in a process group of its own, its output in a file.

    ``user`` runs it as somebody else (as root only): some programs refuse to run as root.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                start_new_session=True,
            )
        self._owner = os.getpid()
        _running.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def alive(self) -> bool:
        return self.returncode is None

    @property
    def is_ours(self) -> bool:
        """Whether this very process started it: a fork of the tests ends nothing of theirs."""
        return self._owner == os.getpid()

    def log(self) -> str:
        """The end of what the program has printed so far."""
        return self.log_path.read_bytes()[-_LOG_TAIL:].decode(errors="replace")

    def wait_ready(self, ready: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait until ``ready()``. Raises :class:`ProcessDied` if the program ends before."""

        def settled() -> bool:
            return not self.alive or bool(ready())

        try:
            wait_until(settled, timeout, what=f"{self.name} to be ready")
        except AssertionError as error:
            raise ProcessDied(f"{error}\n{self.log()}") from None
        if not self.alive:
            raise ProcessDied(f"{self.name} ended with {self.returncode}:\n{self.log()}")

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; nothing happens if it is gone."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for the end and return the exit status; ``subprocess.TimeoutExpired`` if none."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the process and its children, as a crash would end them."""
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self, timeout: float = 10.0) -> None:
        """SIGTERM, and SIGKILL to what is left after ``timeout`` seconds."""
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + timeout
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.01)
        self.kill()


@atexit.register
def _kill_all() -> None:
    for process in list(_running):
        if process.is_ours and process.alive:
            process.kill()
