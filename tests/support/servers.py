"""ASGI servers as processes: daphne, uvicorn and hypercorn, each on a port of its own."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from .processes import HOST, ChildProcess, accepts, free_port

ROOT = Path(__file__).resolve().parents[2]

ServerKind = Literal["daphne", "uvicorn", "hypercorn"]
SERVER_KINDS: tuple[ServerKind, ...] = get_args(ServerKind)


def _command(kind: ServerKind, application: str, port: int) -> list[str]:
    match kind:
        case "daphne":
            return ["-m", "daphne", "-b", HOST, "-p", str(port), application]
        case "uvicorn":
            return ["-m", "uvicorn", "--host", HOST, "--port", str(port), application]
        case "hypercorn":
            return ["-m", "hypercorn", "--bind", f"{HOST}:{port}", application]


class ServerProcess:
    """One ASGI server that serves ``application`` (``module:attribute``)."""

    def __init__(
        self,
        kind: ServerKind,
        *,
        application: str,
        log: Path,
        env: Mapping[str, str],
        port: int | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.port = free_port() if port is None else port
        self.log_path = log
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **env}
        command = _command(kind, application, self.port)
        self._command = [sys.executable, *command[:-1], *arguments, command[-1]]
        self._process: ChildProcess | None = None

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError(f"the {self.kind} was not started; call start() first")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def host(self) -> str:
        """``127.0.0.1:port``"""
        return f"{HOST}:{self.port}"

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:port``, as a browser sends it."""
        return f"http://{self.host}"

    def url(self, path: str = "/") -> str:
        return f"{self.origin}{path}"

    def ws_url(self, path: str = "/realtime/ws/") -> str:
        return f"ws://{self.host}{path}"

    def log(self) -> str:
        return self.process.log()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        if self.alive:
            raise RuntimeError(f"a {self.kind} already runs on port {self.port}")
        self._process = ChildProcess(
            self._command,
            name=f"{self.kind} on {self.port}",
            log=self.log_path,
            env=self._env,
            cwd=ROOT,
        )
        self._process.wait_ready(lambda: accepts(self.port))

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, as a deployment does; SIGKILL after ``timeout`` seconds."""
        self.process.terminate(timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self.process.kill()

    def pause(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same port."""
        if self.alive:
            self.kill()
        self.start()
