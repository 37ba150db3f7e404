"""Links lead somewhere, code compiles, and what is named exists, in every page."""

from __future__ import annotations

import ast
import doctest
import re
import struct
import zlib
from pathlib import Path

import pytest
from django.conf import global_settings

import django_wsrealtime
from django_wsrealtime import errors
from django_wsrealtime.conf import KEYS, LIMITS
from tests.docs.markdown import DOCS, ROOT, Block, blocks, pages, without_code

PAGES = pages()
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OWN_SETTING = re.compile(r"WSREALTIME\[(['\"])(\w+)\1\](?:\[(['\"])(\w+)\3\])?")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


# --- links ---------------------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"(?m)^#+ (.*)$", without_code(page.read_text(encoding="utf-8"))):
        slug = re.sub(r"[^\w -]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower())
        slug = slug.strip().replace(" ", "-")
        number = 1
        while (unique := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(unique)
    return found


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"https?://|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"a link to {link}"
        if anchor:
            assert anchor in slugs(path), f"a link to {link}"


def test_the_index_leads_to_every_page() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    reached = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(text)}
    missing = [
        named(page)
        for page in DOCS.rglob("*.md")
        if page.name != "index.md" and page.parent.name != "decisions" and page not in reached
    ]
    assert not missing


# --- code ----------------------------------------------------------------------------------------


def python_of(block: Block) -> str:
    """The code of a block; of a shell's session, what was typed."""
    if ">>>" not in block.code:
        return block.code
    return "".join(example.source for example in doctest.DocTestParser().get_examples(block.code))


@every_page
def test_python_compiles(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        code = python_of(block)
        try:
            compile(code, f"{named(page)}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            # A key and its value, to be put into a dictionary that stands above.
            try:
                compile("{" + code + "}", "", "eval")
            except SyntaxError:
                pytest.fail(f"{named(page)}:{block.line}: {error}")


@every_page
def test_what_is_imported_from_the_package_is_there(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        try:
            tree = ast.parse(python_of(block))
        except SyntaxError:
            continue  # see above
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
                continue
            if node.module.partition(".")[0] != "django_wsrealtime":
                continue
            module = __import__(node.module, fromlist=["*"])
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


# --- names ---------------------------------------------------------------------------------------


@every_page
def test_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for _, key, _, limit in _OWN_SETTING.findall(text):
        assert key in KEYS, f"WSREALTIME[{key!r}]"
        if limit:
            assert key == "LIMITS"
            assert limit in LIMITS, f"WSREALTIME['LIMITS'][{limit!r}]"
    for block in blocks(page):
        if block.language == "python" and "WSREALTIME = {" in block.code:
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WSREALTIME":
                    assert isinstance(node.value, ast.Dict)
                    for key_node in node.value.keys:
                        assert ast.literal_eval(key_node or ast.Constant("")) in KEYS


_OTHERS_SETTINGS = {
    "ASGI_APPLICATION",  # Channels
    "CHANNEL_LAYERS",
    "MAILERS",  # Django 6.1, in the settings of a new project
    "SECURE_CSP",  # Django 6
    "WSREALTIME",
}


@every_page
def test_settings_of_django_that_are_named_exist(page: Path) -> None:
    """In code that is added to settings, and only there: capitals mean many things elsewhere."""
    known = set(dir(global_settings)) | _OTHERS_SETTINGS | {"BASE_DIR", "REDIS_URL"}
    for block in blocks(page):
        if block.file not in ("mysite/settings.py", "mysite/production.py"):
            continue
        for node in ast.parse(block.code).body:
            if isinstance(node, ast.Assign):
                name = ast.unparse(node.targets[0])
                assert name in known or name.startswith("CONTENT_SECURITY"), name


@every_page
def test_checks_that_are_named_are_explained(page: Path) -> None:
    explained = (DOCS / "reference" / "checks.md").read_text(encoding="utf-8")
    for id in re.findall(r"\bwsrealtime\.[EWI]\d{3}\b", page.read_text(encoding="utf-8")):
        assert f"## `{id}`" in explained or f"## {id}" in explained, id


def test_every_figure_of_speed_is_a_result() -> None:
    results = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "(tests/benchmarks/RESULTS.md)" in text
    ratios = re.findall(r"1/\d+(?: of the [a-z ]+)? on \w+", text)
    assert len(ratios) == 2
    for ratio in ratios:
        assert re.sub(r" of the [a-z ]+ on", " on", ratio) in results, ratio
    assert not re.search(r"\d+(?:\.\d+)?\s*(?:×|times|%|µs|ms)", text)


def test_what_is_not_there_is_not_there() -> None:
    """The README says what this version lacks; when something comes, it has to go from there."""
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is not there")
    lacking, _, _ = rest.partition("\n## ")
    package = Path(django_wsrealtime.__file__).parent
    for word, path in {
        "Server-Sent Events": "transports/http.py",
        "fragments": "fragments",
        "outbox": "outbox",
        "server classes": "servers",
        "Collaborative forms": "collab",
        "metrics": "metrics",
    }.items():
        assert word in lacking
        assert not (package / path).exists(), f"{path} is there: take it out of the README"
        assert not (package / f"{path}.py").exists(), f"{path} is there: take it out of the README"


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {django_wsrealtime.__version__}" in text


def test_close_codes_in_prose_are_of_the_catalogue() -> None:
    known = {int(code) for code in errors.CloseCode}
    ranges = {4000, 4099, 4100, 4199, 4400, 4599, 4999, 4009}
    for page in PAGES:
        if page.name in ("errors.md", "frames.md", "writing-a-client.md", "RESULTS.md"):
            continue  # they explain the ranges
        text = without_code(page.read_text(encoding="utf-8"))
        for code in re.findall(r"\b(?:closed with|closes with|code) (4\d{3})\b", text):
            assert int(code) in known | ranges, f"{named(page)}: {code}"


# --- the picture ---------------------------------------------------------------------------------


def test_the_animation_is_whole() -> None:
    """Chunks, checksums, sequence numbers and pixels of every frame (PNG, third edition)."""
    data = (DOCS / "images" / "two-browsers.png").read_bytes()
    frames: list[bytes] = []
    announced, sequence, at, size = 0, 0, 8, (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (
            zlib.crc32(kind + body),
        )
        at += 12 + length
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
            channels = {2: 3, 6: 4}[body[9]]
        elif kind == b"acTL":
            announced = struct.unpack(">II", body)[0]
        elif kind in (b"fcTL", b"fdAT"):
            assert struct.unpack(">I", body[:4]) == (sequence,)
            sequence += 1
            if kind == b"fdAT":
                frames.append(zlib.decompress(body[4:]))
        elif kind == b"IDAT":
            frames.append(zlib.decompress(body))
    assert kind == b"IEND"
    assert len(frames) == announced >= 5
    assert {len(frame) for frame in frames} == {size[1] * (1 + size[0] * channels)}
    assert len(set(frames)) == len(frames)
