"""What the machine is, which core does what, and how much CPU a process has used."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = (
    "django",
    "channels",
    "channels-redis",
    "daphne",
    "twisted",
    "autobahn",
    "uvicorn",
    "websockets",
    "uvloop",
    "httptools",
    "redis",
    "hiredis",
    "msgspec",
)


@cache
def cores() -> tuple[set[int], set[int]]:
    """The core of the server, and those of everything else, as this process found them.

    Raises:
        RuntimeError: there is only one; then nothing here means anything.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise RuntimeError("A benchmark needs two cores: one is the server's alone.")
    return {usable[-1]}, set(usable[:-1])


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process since it started (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kib(pid: int) -> int:
    """The process's resident memory now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has no resident memory; it has ended")


def busy_seconds() -> dict[int, float]:
    """Seconds each core was not idle since boot, whoever used it (proc(5), ``/proc/stat``)."""
    busy: dict[int, float] = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, numbers[:8])
            busy[int(name[3:])] = (user + nice + system + irq + softirq + steal) / _TICKS
    return busy


def describe() -> dict[str, str]:
    """Processor, kernel, Python and the versions that matter."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    found = {
        "processor": f"{model}, {os.cpu_count()} virtual cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
