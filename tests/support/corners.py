"""Runs the tests in the corners of the supported versions whose Python this machine has.

``python -m tests.support.corners``: a tox environment for each corner, one after the other. tox
itself looks for interpreters on PATH; pyenv keeps most of its own elsewhere.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CORNERS = {"3.10": "py310-django52-redis7", "3.13": "py313-django61-redis8"}
"""Which environment of tox.ini stands for which Python: the oldest of everything, and the newest.

What lies between runs by name: ``python -m tox -e py312-django60-redis8``.
"""


def find(version: str) -> Path | None:
    """An interpreter of this version, on PATH or among pyenv's; ``None`` if there is none."""
    candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted((pyenv / "versions").glob(f"{version}.*/bin/python"), reverse=True)
    return next((python for python in candidates if _is(python, version)), None)


def _is(python: Path, version: str) -> bool:
    """Whether it really runs: pyenv's shims exist for versions that are switched off."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return ran.stdout.strip() == version


def main() -> int:
    failed = []
    for version, environment in CORNERS.items():
        python = find(version)
        if python is None:
            print(f"{environment}: left out, there is no Python {version} here")
            continue
        command = ["-m", "tox", "run", "-e", environment, "--discover", str(python)]
        if subprocess.run([sys.executable, *command], check=False).returncode:
            failed.append(environment)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
