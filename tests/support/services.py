"""Finds the system services tests need, and installs them where it may.

``python -m tests.support.services install redis chromium postgresql`` installs what is missing if
it runs as root on a Debian-like system. Elsewhere it names what to install and succeeds, so that
the tests of that service are skipped; with ``CI`` set it fails instead, and so do the tests.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def _program(*names: str) -> Path | None:
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    return None


def _find_redis() -> Path | None:
    return _program("redis-server", "valkey-server")


def _find_chromium() -> Path | None:
    if chosen := os.environ.get("TEST_CHROMIUM"):
        return Path(chosen)
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return _program(
        "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"
    ) or (mac if mac.exists() else None)


def _version_of(directory: Path) -> int:
    """15 of ``/usr/lib/postgresql/15/bin``; 0 where the name holds no number."""
    digits = "".join(filter(str.isdigit, directory.parent.name))
    return int(digits or 0)


def _find_postgresql() -> Path | None:
    """The directory of ``initdb`` and ``postgres``; Debian keeps them off the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of, reverse=True)
    red_hat = sorted(Path("/usr").glob("pgsql-*/bin"), key=_version_of, reverse=True)
    candidates = [*debian, *red_hat]
    if (initdb := _program("initdb")) is not None:
        candidates.append(initdb.resolve().parent)
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One system service: how to find it, and which packages bring it."""

    find: Callable[[], Path | None]
    apt: tuple[str, ...]
    brew: str
    note: str = ""


SERVICES: Mapping[str, Service] = {
    "redis": Service(find=_find_redis, apt=("redis-server",), brew="redis"),
    "chromium": Service(
        find=_find_chromium,
        apt=("chromium",),
        brew="--cask google-chrome",
        note="TEST_CHROMIUM may name the executable of any Chromium",
    ),
    "postgresql": Service(find=_find_postgresql, apt=("postgresql",), brew="postgresql"),
}


class ServiceMissing(RuntimeError):
    """A service is not on this machine; the message says how to get it."""


def in_ci() -> bool:
    """Whether a missing service is a failure: ``CI`` is set to something that is not false."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false", "no"}


def locate(name: str) -> Path:
    """Where the service ``name`` is: its executable, for PostgreSQL the directory of them.

    Raises :class:`ServiceMissing` if it is not on this machine.
    """
    service = SERVICES[name]
    if (found := service.find()) is not None:
        return found
    note = f" ({service.note})" if service.note else ""
    raise ServiceMissing(
        f"{name} was not found{note}. Install it with `apt-get install {' '.join(service.apt)}` "
        f"or `brew install {service.brew}`."
    )


def may_install() -> bool:
    """Whether packages can be installed here without asking anybody."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def _apt_install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    ):
        print("$", *command, flush=True)
        subprocess.run(command, check=True, env=environment)


def install(names: list[str]) -> list[str]:
    """Install the missing ones of ``names`` where that is possible; return those still missing."""
    missing = [name for name in names if SERVICES[name].find() is None]
    if missing and may_install():
        _apt_install([package for name in missing for package in SERVICES[name].apt])
    return [name for name in missing if SERVICES[name].find() is None]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Find or install what the tests need.")
    parser.add_argument("verb", choices=["install", "find"])
    parser.add_argument("names", nargs="*", metavar="service", default=list(SERVICES))
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(SERVICES):
        parser.error(f"unknown {', '.join(sorted(unknown))}; choose from {', '.join(SERVICES)}")
    failed = False
    if options.verb == "install":
        try:
            install(options.names)
        except subprocess.CalledProcessError as error:
            print(f"{error}; going on with what is there", file=sys.stderr)
    for name in options.names:
        try:
            print(f"{name}: {locate(name)}")
        except ServiceMissing as error:
            failed = True
            outcome = "and CI is set: failing" if in_ci() else "its tests are skipped"
            print(f"{error} ({outcome})", file=sys.stderr)
    return 1 if failed and in_ci() else 0


if __name__ == "__main__":
    sys.exit(main())
