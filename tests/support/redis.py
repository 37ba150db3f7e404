"""A redis-server of the tests' own, which can be killed, paused and restarted."""

import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from . import services
from .processes import HOST, ChildProcess, free_port


def _ask(port: int, command: bytes, timeout: float = 2.0) -> bytes:
    """One inline command, one line of answer; ``b""`` where nobody answers."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(4096)
    except OSError:
        return b""


class RedisServer:
    """One redis-server: without persistence, with ``noeviction``, in a directory of its own.

    ``options`` are directives of ``redis.conf``; they override those of the tests.
    """

    def __init__(self, directory: Path, options: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.options: dict[str, str] = {
            "bind": HOST,
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            **(options or {}),
        }
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def channel_layers(self) -> dict[str, object]:
        """``CHANNEL_LAYERS`` on this server, as ``TEST_CHANNEL_LAYERS`` takes it."""
        # redis-py 8 has a read timeout by default, which ends channels_redis' blocking reads.
        host = {"address": self.url, "socket_timeout": None}
        return {
            "default": {
                "BACKEND": "channels_redis.core.RedisChannelLayer",
                "CONFIG": {"hosts": [host]},
            }
        }

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the redis-server was not started; call start() first")
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self, options: Mapping[str, str] | None = None) -> None:
        """Start on this object's port and wait until it answers; ``options`` stay for restarts."""
        if self.alive:
            raise RuntimeError(f"a redis-server already runs on port {self.port}")
        self.options.update(options or {})
        arguments = [part for key, value in self.options.items() for part in (f"--{key}", value)]
        self._process = ChildProcess(
            [
                str(services.locate("redis")),
                *("--port", str(self.port), "--dir", str(self.directory), *arguments),
            ],
            name=f"redis-server on {self.port}",
            log=self.directory / "redis.log",
            cwd=self.directory,
        )
        self._process.wait_ready(self._answers)

    def _answers(self) -> bool:
        answer = _ask(self.port, b"PING")
        return bool(answer) and not answer.startswith(b"-LOADING")

    def kill(self) -> None:
        """End it as a crash would; nothing is saved."""
        self.process.kill()

    def stop(self) -> None:
        """End it in good order."""
        self.process.terminate()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what was asked meanwhile is answered."""
        self.process.signal(signal.SIGCONT)

    def restart(self, options: Mapping[str, str] | None = None) -> None:
        """Kill it if it runs, and start an empty one on the same port."""
        if self.alive:
            self.kill()
        self.start(options)

    def flush(self) -> None:
        """Drop every key of every database; refused by servers with a password."""
        answer = _ask(self.port, b"FLUSHALL")
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"FLUSHALL on port {self.port} was answered with {answer!r}")
