"""The reference says what the code does: names, defaults, codes, frames and counters."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

import django_wsrealtime
from django_wsrealtime import errors
from django_wsrealtime.conf import Conf
from django_wsrealtime.errors import CloseCode, ErrorCode, RealtimeError
from django_wsrealtime.protocol import SUBPROTOCOL, VERSION, codec, frames
from django_wsrealtime.protocol.limits import Limits

PACKAGE = Path(django_wsrealtime.__file__).parent
REFERENCE = PACKAGE.parent / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = title.partition(" ")[0]
    _, _, rest = text.partition(f"\n{title}\n")
    assert rest, f"there is no {title!r}"
    return re.split(rf"(?m)^#{{1,{len(level)}}} ", rest)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the tables' rows, without their heads."""
    lines = text.splitlines()
    for before, line in pairwise(lines):
        if line.startswith("| ") and not line.startswith("| ---") and before.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def code(cell: str) -> str:
    found = re.match(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


def defaults(kind: Any, *, upper: bool = False) -> dict[str, str]:
    return {
        (field.name.upper() if upper else field.name): repr(field.default).replace("'", '"')
        for field in dataclasses.fields(kind)
    }


# --- settings ----------------------------------------------------------------------------------


def test_every_setting_is_explained_with_its_default() -> None:
    told = {
        code(row[0]): row[1].strip("`")
        for row in rows(section(page("settings"), "## `WSREALTIME`"))
    }
    known = defaults(Conf, upper=True)
    assert told.pop("LIMITS") == "see below"
    del known["LIMITS"]
    assert told == known


def test_every_limit_is_explained_with_its_default() -> None:
    text = section(page("settings"), '## `WSREALTIME["LIMITS"]`')
    assert {code(row[0]): row[1].strip("`") for row in rows(text)} == defaults(Limits)


# --- errors ------------------------------------------------------------------------------------


def test_every_error_code_is_explained() -> None:
    told = [code(row[0]) for row in rows(section(page("errors"), "## Error codes"))]
    assert told == [known.value for known in ErrorCode]


def test_every_close_code_is_explained() -> None:
    first_table, _, _ = section(page("errors"), "## Close codes").partition("The ranges decide")
    told = [(int(row[0]), code(row[1]), row[2]) for row in rows(first_table)]
    assert told == [
        (known.value, known.name, "yes" if known.reconnect else "no") for known in CloseCode
    ]


def test_every_exception_is_explained() -> None:
    told = {code(row[0]) for row in rows(section(page("errors"), "## Exceptions in Python"))}
    known = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, RealtimeError)
    }
    assert told == known - {"RealtimeError"}


# --- frames ------------------------------------------------------------------------------------


def wire_fields(kind: Any) -> set[str]:
    return set(kind.__struct_encode_fields__)


FROM_CLIENT = {kind.__struct_config__.tag: kind for kind in get_args(frames.ClientFrame)}
FROM_SERVER = {kind.__struct_config__.tag: kind for kind in get_args(frames.ServerFrame)}


def told_fields(side: str, name: str) -> set[str]:
    text = section(page("frames"), f"## From the {side}")
    (title,) = re.findall(rf"(?m)^### .*`{name}`.*$", text)
    return {
        field
        for row in rows(section(text, title))
        if len(row) == 3
        for field in re.findall(r"`([a-z_]+)`", row[0])
    }


@pytest.mark.parametrize("name", FROM_CLIENT)
def test_every_frame_of_the_client_is_explained(name: str) -> None:
    assert told_fields("client", name) == wire_fields(FROM_CLIENT[name])


@pytest.mark.parametrize("name", sorted(FROM_SERVER.keys() - {"ping", "pong"}))
def test_every_frame_of_the_server_is_explained(name: str) -> None:
    assert told_fields("server", name) == wire_fields(FROM_SERVER[name])


def test_events_are_explained() -> None:
    head = codec.event_head("t", "e")
    sender = codec.Sender(id="1", name="ada")
    body = codec.event_body(
        kind="client", event="x", data=b"1", key="k", origin="tab", sender=sender
    )
    sent: Any = json.loads(codec.event_frame(head, offset=1, time=2, body=body))
    assert told_fields("server", "event") == set(sent) - {"type"}


def test_the_name_and_version_of_the_protocol_are_told() -> None:
    assert f"`{SUBPROTOCOL}`" in page("frames")
    assert f"Version of the protocol: {VERSION}." in page("frames")


# --- counters ----------------------------------------------------------------------------------


def counted() -> set[str]:
    """The names in ``count("…")`` and ``refuse("…")``; what is filled in is ``*``."""
    found: set[str] = set()
    for source in PACKAGE.rglob("*.py"):
        if source.name == "instrumentation.py":
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("count", "refuse") or not node.args:
                continue
            prefix = "refused." if node.func.id == "refuse" else ""
            match node.args[0]:
                case ast.Constant(value=str(name)):
                    found.add(prefix + name)
                case ast.JoinedStr(values=parts):
                    found.add(
                        prefix
                        + "".join(
                            str(part.value) if isinstance(part, ast.Constant) else "*"
                            for part in parts
                        )
                    )
    return found


def test_every_counter_is_explained() -> None:
    told = {
        re.sub("<[^>]+>", "*", name)
        for row in rows(page("counters"))
        for name in re.findall(r"`([^`]+)`", row[0])
    }
    assert told - {"refused.*"} == counted()


# --- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in REFERENCE.glob("*.md")))
def test_links_within_the_reference_lead_somewhere(name: str) -> None:
    for target, _, anchor in re.findall(r"\]\(([\w./-]*?)(#([\w-]+))?\)", page(name)):
        path = REFERENCE / (target or f"{name}.md")
        assert path.exists() or path.parent != REFERENCE, f"{name}.md links to {target}"
        if anchor and path.exists():
            titles = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{name}.md links to {target}#{anchor}"
