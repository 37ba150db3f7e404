"""The README's quick start works as it stands there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.tutorial import Project
from tests.support.processes import HOST, ChildProcess, accepts, free_port

pytestmark = pytest.mark.timeout(180)

README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "two-browsers.png"

# What the README says a reader has already.
GIVEN = {
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    number = models.CharField(max_length=20)
    status = models.CharField(max_length=10, default="new")
""",
    "shop/views.py": """
from django.http import HttpResponse
from django.shortcuts import render
from shop.models import Order

def orders(request):
    return render(request, "shop/orders.html")

def save(request, number, status):
    Order.objects.update_or_create(number=number, defaults={"status": status})
    return HttpResponse("saved")
""",
    "mysite/urls.py": """
from django.urls import path
from shop import views

urlpatterns = [
    path("", views.orders),
    path("save/<str:number>/<str:status>/", views.save),
]
""",
}


def steps() -> list[Block]:
    return [block for block in blocks(README) if block.file is not None]


def test_it_takes_ten_lines() -> None:
    lines = 0
    for block in steps():
        if block.language == "python":
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.Assign | ast.AugAssign | ast.ClassDef):
                    lines += 1 + len(getattr(node, "decorator_list", ()))
    assert lines == 10


def test_the_two_commands_name_environments_that_exist() -> None:
    text = README.read_text(encoding="utf-8")
    assert "python -m pip install tox && python -m tox -e demo\n" in text
    assert "python -m pip install tox && python -m tox\n" in text
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert "[testenv:demo]" in tox


def test_the_picture_is_an_animation_of_moderate_size() -> None:
    data = PICTURE.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"acTL" in data[:64]
    assert len(data) <= 1_000_000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    project = Project(tmp_path)
    project.run("django-admin startproject mysite .")
    project.run("python manage.py startapp shop")
    settings = tmp_path / "mysite" / "settings.py"
    settings.write_text(settings.read_text() + '\nINSTALLED_APPS += ["shop"]\n')
    for name, code in GIVEN.items():
        project.write(name, code)
    project.run("python manage.py makemigrations shop")
    project.run("python manage.py migrate")
    for block in steps():
        assert block.file is not None
        project.write(block.file, block.code, appended=block.appended)
    assert "no issues" in project.run("python manage.py check --fail-level WARNING")
    port = free_port()
    process = ChildProcess(
        [project.python, "manage.py", "runserver", str(port), "--noreload"],
        name="runserver of the quick start",
        log=tmp_path / "runserver.log",
        cwd=tmp_path,
        env=project.environment(),
    )
    try:
        process.wait_ready(lambda: accepts(port), timeout=60)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate(timeout=5)


def test_two_windows_follow_a_save(address: str, chromium: Browser) -> None:
    pages = [chromium.new_page() for _ in range(2)]
    for page in pages:
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("Live", timeout=30_000)
    saving = chromium.new_page()
    for status in ("new", "ready"):
        saving.goto(f"{address}/save/A-1/{status}/")
        for page in pages:
            expect(page.locator("#orders")).to_have_text(f"A-1: {status}", timeout=30_000)
    late = chromium.new_page()
    late.goto(address)
    expect(late.locator("#orders")).to_have_text("A-1: ready", timeout=30_000)
    for page in (*pages, saving, late):
        page.close()
