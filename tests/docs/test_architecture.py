"""Every place that docs/architecture.md names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_wsrealtime
from tests.docs.markdown import DOCS, ROOT, without_code

PACKAGE = Path(django_wsrealtime.__file__).parent
PAGE = DOCS / "architecture.md"
_PLACE = re.compile(r"`([\w./-]+?(?:\.\w+|/))(?:::([\w.]+))?`")


def places() -> list[tuple[str, str]]:
    """Each named file or directory with what is named in it, if anything."""
    text = without_code(PAGE.read_text(encoding="utf-8"))
    found = sorted(
        {(path, name) for path, name in _PLACE.findall(text) if "." in path or "/" in path}
    )
    assert len(found) > 60
    return found


def where(path: str) -> Path:
    for root in (PACKAGE, ROOT):
        if (root / path).exists():
            return root / path
    raise AssertionError(f"there is no {path}")


def names_in(body: list[ast.stmt], before: str = "") -> Iterator[str]:
    """What a module or class defines, members with the class before them."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield before + name
            case ast.ClassDef(name=name):
                yield before + name
                yield from names_in(node.body, f"{before}{name}.")
            case ast.Assign(targets=targets):
                yield from (before + one.id for one in targets if isinstance(one, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield before + name


@pytest.mark.parametrize(("path", "name"), places())
def test_a_named_place_is_there(path: str, name: str) -> None:
    file = where(path)
    if not name:
        return
    source = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        assert name in set(names_in(ast.parse(source).body))
    else:
        assert re.search(rf"\b(?:const|class|function) {re.escape(name)}\b", source)


def test_a_place_that_is_not_there_is_noticed() -> None:
    with pytest.raises(AssertionError):
        where("hub/nowhere.py")
    with pytest.raises(AssertionError):
        test_a_named_place_is_there("hub/core.py", "Hub.nothing")
    with pytest.raises(AssertionError):
        test_a_named_place_is_there("client/session.js", "nothing")


def test_every_module_of_the_layers_is_shown() -> None:
    (layers,) = re.findall(r"(?s)```text\n(.*?)```", PAGE.read_text(encoding="utf-8"))
    shown = set(re.findall(r"[a-z_]+", layers)) - {"edge", "adapters", "runtime", "storage", "base"}
    modules = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert modules <= shown
    assert shown - {"pure"} <= modules
