"""Whoever follows docs/how-to/install.md to the letter has a project that works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "install.md"
BLOCK = re.compile(r"(?s)```(?:python|django)\n(?:# |\{# )([\w./]+)(?: #\})?\n(.*?)```")

SHOW = """
import django; django.setup()
from django.template.loader import render_to_string
from django.test import RequestFactory
from django_wsrealtime import Topic
from django_wsrealtime.topics import resolve
print(render_to_string("shop/page.html", {}, RequestFactory().get("/")))
print(resolve("store/7").store_id + 35)
"""


def blocks() -> list[tuple[str, str]]:
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == 6
    return found


class Project:
    """A new project in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python("-m", "django", "startproject", "mysite", ".")
        self.python("manage.py", "startapp", "shop")

    def python(self, *arguments: str) -> str:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DJANGO_", "TEST_")) and name != "WEB_CONCURRENCY"
        }
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=environment | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def write(self, name: str, code: str) -> None:
        """Settings are added to those that are there; other files replace what is there."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.name == "settings.py" else ""
        path.write_text(before + code, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_project_of_the_page_passes_every_check_and_renders(project: Project) -> None:
    *steps, (_, several) = blocks()
    assert "CHANNEL_LAYERS" in several
    for name, code in steps:
        project.write(name, code)
    assert "no issues" in project.python("manage.py", "check", "--fail-level", "WARNING")
    shown = project.python(
        "-c", f"import os; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings'){SHOW}"
    )
    assert 'src="/static/django_wsrealtime/wsrealtime.js"' in shown
    assert 'data-prefix="/realtime"' in shown
    assert "<wsrealtime-connection" in shown
    assert "42" in shown


def test_the_channel_layer_of_the_page_means_redis(project: Project) -> None:
    for name, code in blocks():
        project.write(name, code)
    assert "no issues" in project.python("manage.py", "check", "--fail-level", "WARNING")
    path = project.python(
        "manage.py",
        "shell",
        "-v0",
        "-c",
        "from django_wsrealtime.brokers import broker_path; print(broker_path())",
    )
    assert "django_wsrealtime.brokers.redis.RedisBroker" in path


@pytest.mark.parametrize(
    ("step", "expected"),
    [("mysite/asgi.py", "wsrealtime.E022"), ("mysite/urls.py", "wsrealtime.W040")],
)
def test_a_step_that_is_left_out_is_named(project: Project, step: str, expected: str) -> None:
    for name, code in blocks():
        if name != step:
            project.write(
                name,
                code.replace(
                    '    "django.contrib.auth",\n',
                    '    "django.contrib.admin",\n    "django.contrib.auth",\n',
                ),
            )
    with pytest.raises(AssertionError, match=expected):
        project.python("manage.py", "check", "--fail-level", "WARNING")
