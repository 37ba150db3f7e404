"""The wheel holds what it needs, and a project that installs nothing else is live."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

import django_wsrealtime
from tests.docs import tutorial
from tests.support.processes import HOST, ChildProcess, accepts, free_port

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "django_wsrealtime"
QUICKSTART = Path(__file__).parent / "quickstart"
STATIC = "django_wsrealtime/static/django_wsrealtime/"


def outside() -> dict[str, str]:
    """An environment that shows nothing of this checkout and its settings."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def run(*command: str | Path, cwd: Path) -> str:
    """Run to the end, knowing nothing of this checkout; return what it printed."""
    finished = subprocess.run(
        command,
        cwd=cwd,
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if finished.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{finished.stdout}", pytrace=False)
    return finished.stdout


# The wheel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, ROOT, cwd=ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources(*suffixes: str, below: str = "") -> set[str]:
    """Files of the package with one of these suffixes (all if none), as paths in the wheel."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (PACKAGE / below).rglob("*")
        if path.is_file() and (not suffixes or path.suffix in suffixes)
    }
    kept = {name for name in found if not {"client", "__pycache__"} & set(name.split("/"))}
    assert kept, f"the package has no {suffixes or 'files'} below {below or 'its root'}"
    return kept


def test_carries_the_package_typed(names: set[str]) -> None:
    assert "django_wsrealtime/py.typed" in names
    assert sources(".py") <= names


def test_carries_lua_and_templates(names: set[str]) -> None:
    assert sources(".lua") <= names
    assert {name for name in sources() if "/templates/" in name} <= names


def test_carries_the_built_client_with_maps_and_types(names: set[str]) -> None:
    for file in ("wsrealtime.js", "wsrealtime.js.map", "websocket.js", "websocket.js.map"):
        assert STATIC + file in names
    assert any(name.startswith(STATIC) and name.endswith(".d.ts") for name in names)
    assert sources(below="static") <= names


def test_every_source_map_a_script_names_is_there(wheel: Path, names: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for script in (name for name in names if name.startswith(STATIC) and name.endswith(".js")):
            for named in re.findall(r"sourceMappingURL=(\S+)", archive.read(script).decode()):
                assert STATIC + named in names, f"{script} names {named}"


def test_carries_nothing_else(names: set[str]) -> None:
    roots = {name.split("/")[0] for name in names}
    assert roots == {
        "django_wsrealtime",
        f"django_wsrealtime-{django_wsrealtime.__version__}.dist-info",
    }
    assert not [name for name in names if "/client/" in name or "node_modules" in name]
    assert not [name for name in names if "test" in name.lower() and "testing" not in name]


# A project that uses it ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A Django project and the Python of an environment that holds the wheel alone."""

    directory: Path
    python: Path

    def manage(self, *arguments: str) -> str:
        return run(self.python, "manage.py", *arguments, cwd=self.directory)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel and what it requires, no extras."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", directory, cwd=directory)
    programs = directory / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", wheel, cwd=directory)
    return programs / "python"


@pytest.fixture(scope="module")
def project(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    directory = tmp_path_factory.mktemp("project")
    run(python, "-m", "django", "startproject", "mysite", directory, cwd=directory)
    site = directory / "mysite"
    (site / "settings.py").rename(site / "startproject_settings.py")
    for name in ("settings.py", "asgi.py", "urls.py"):
        shutil.copy(QUICKSTART / name, site / name)
    shutil.copytree(QUICKSTART / "shop", directory / "shop")
    project = Project(directory=directory, python=python)
    project.manage("makemigrations", "shop")
    project.manage("migrate")
    project.manage("collectstatic", "--noinput")
    return project


def test_the_package_comes_from_the_wheel(project: Project) -> None:
    where = run(
        project.python,
        "-c",
        "import django_wsrealtime; print(django_wsrealtime.__file__)",
        cwd=project.directory,
    )
    assert not Path(where.strip()).is_relative_to(ROOT)


def test_checks_find_nothing(project: Project) -> None:
    assert "no issues" in project.manage("check")


def test_static_files_are_collected_with_hashes(project: Project) -> None:
    collected = project.directory / "collected"
    hashed = json.loads((collected / "staticfiles.json").read_text())["paths"]
    for name in ("django_wsrealtime/wsrealtime.js", "django_wsrealtime/websocket.js"):
        assert (collected / hashed[name]).is_file()
        assert hashed[name] != name


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[str]:
    """``127.0.0.1:port`` of the project's daphne."""
    port = free_port()
    process = ChildProcess(
        [
            *(str(project.python), "-m", "daphne"),
            *("-b", HOST, "-p", str(port), "mysite.asgi:application"),
        ],
        name="daphne of the quick start",
        log=project.directory / "daphne.log",
        cwd=project.directory,
        env=outside(),
    )
    try:
        process.wait_ready(lambda: accepts(port))
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        print(process.log())


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read()
        return body.decode()


def test_a_page_names_the_hashed_client(project: Project, server: str) -> None:
    (source,) = re.findall(
        r'src="/static/(django_wsrealtime/wsrealtime[^"]*)"', get(f"http://{server}/")
    )
    assert source != "django_wsrealtime/wsrealtime.js"
    assert (project.directory / "collected" / source).is_file()


def frames_until(client: ClientConnection, wanted: str, timeout: float = 15.0) -> list[Any]:
    """Every frame up to and including the first of type ``wanted``."""
    deadline = time.monotonic() + timeout
    frames: list[Any] = []
    while not any(frame["type"] == wanted for frame in frames):
        message = client.recv(timeout=max(0.0, deadline - time.monotonic()))
        frames += [json.loads(line) for line in str(message).splitlines() if line.strip()]
    return frames


def test_a_save_reaches_a_websocket_client(server: str) -> None:
    with connect(
        f"ws://{server}/realtime/ws/",
        origin=Origin(f"http://{server}"),
        subprotocols=[Subprotocol("wsrealtime.v1.json")],
        open_timeout=15,
    ) as client:
        hello = {
            "type": "hello",
            "v": 1,
            "client": "wheel-test/1",
            "tab": "wheel-test",
            "subscriptions": [{"topic": "orders/7"}],
        }
        client.send(json.dumps(hello))
        frames_until(client, "subscribed")
        get(f"http://{server}/new/8/elsewhere/")
        pk = int(get(f"http://{server}/new/7/A-1/"))
        event = frames_until(client, "event")[-1]
    assert (event["topic"], event["kind"], event["event"]) == ("orders/7", "row", "upsert")
    assert event["data"] == {"pk": pk, "row": {"number": "A-1", "status": "new"}}


# The tutorial's project ----------------------------------------------------------------------

MANIFEST = """
STATIC_ROOT = BASE_DIR / "collected"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    },
}
"""


def test_the_tutorials_project_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    site = tutorial.build(tmp_path, python=python, path=None, parts=2)
    where = site.run("python -c 'import django_wsrealtime; print(django_wsrealtime.__file__)'")
    assert not Path(where.strip()).is_relative_to(ROOT)
    (settings,) = tmp_path.rglob("settings.py")
    with settings.open("a") as file:
        file.write(MANIFEST)
    base = settings.parents[1]
    manage = f"cd '{base}' && python manage.py"
    assert "no issues" in site.run(f"{manage} check --fail-level WARNING")
    site.run(f"{manage} collectstatic --noinput")
    collected = base / "collected"
    hashed = json.loads((collected / "staticfiles.json").read_text())["paths"]
    assert (collected / hashed["django_wsrealtime/wsrealtime.js"]).is_file()
