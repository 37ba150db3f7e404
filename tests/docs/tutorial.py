"""Follows the tutorial to the letter: its files are written, its commands are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.docs.markdown import DOCS, ROOT, blocks, commands

PARTS = ("1-a-live-table", "2-actions-and-people", "3-many-processes")
PASSWORD = "tutorial"  # what a reader would type

# What a reader leaves running, or has done already.
_LEFT_OUT = ("pip install", "runserver", "daphne", "manage.py shell")


class Project:
    """The reader's directory.

    Args:
        directory: where the project is, or will be.
        python: the interpreter of an environment that has the package.
        path: for ``PYTHONPATH``; ``None`` if the package is installed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        python: str | Path = sys.executable,
        path: Path | None = ROOT,
    ) -> None:
        self.directory = directory
        self.python = str(python)
        self._path = path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the project's processes see: nothing of this checkout's settings."""
        hidden = ("DJANGO_", "TEST_", "PYTHON", "COV_", "REDIS_URL", "WEB_CONCURRENCY")
        seen = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        seen |= {"PYTHONUNBUFFERED": "1", "DJANGO_SUPERUSER_PASSWORD": PASSWORD, **(more or {})}
        return seen if self._path is None else {**seen, "PYTHONPATH": str(self._path)}

    def run(self, command: str, *, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """Run a command line as a reader's shell would; return what it printed."""
        python = f'"{self.python}"'
        if "createsuperuser" in command:
            command += " --noinput"
        functions = (
            f'python() {{ {python} "$@"; }}\ndjango_admin() {{ {python} -m django "$@"; }}\n'
        )
        finished = subprocess.run(
            ["/bin/sh", "-c", functions + command.replace("django-admin ", "django_admin ")],
            cwd=self.directory,
            env=self.environment(env),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=180,
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}"
        return finished.stdout

    def write(self, name: str, code: str, *, appended: bool = False) -> None:
        """Make a file what a block of the tutorial says."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") + "\n\n" if appended else ""
        path.write_text(before + code, encoding="utf-8")

    def follow(self, part: str, *, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Do what a page says from top to bottom.

        Args:
            part: the page's name.
            env: what the reader has in the environment.

        Returns:
            What each command printed.
        """
        printed = {}
        for block in blocks(DOCS / "tutorial" / f"{part}.md"):
            if block.language == "console":
                for command in commands(block):
                    if not any(word in command for word in _LEFT_OUT):
                        printed[command] = self.run(command, env=env)
            elif block.file is not None:
                self.write(block.file, block.code, appended=block.appended)
        return printed


def build(
    directory: Path,
    *,
    python: str | Path = sys.executable,
    path: Path | None = ROOT,
    parts: int = len(PARTS),
    env: Mapping[str, str] | None = None,
) -> Project:
    """The project of a reader who has followed the first ``parts`` pages.

    Args:
        directory: an empty directory.
        python: the interpreter of an environment that has the package.
        path: for ``PYTHONPATH``; ``None`` if the package is installed in that environment.
        parts: how many pages.
        env: what the reader has in the environment; the third page needs ``REDIS_URL``,
            ``SECRET_KEY`` and ``ALLOWED_HOSTS``.
    """
    project = Project(directory, python=python, path=path)
    for part in PARTS[:parts]:
        project.follow(part, env=env)
    return project
