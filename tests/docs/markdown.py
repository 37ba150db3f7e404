"""Reads code out of Markdown pages, so that tests run what readers copy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"(?ms)^```(\w*)[^\n]*\n(.*?)^```$")
# What the first line of a block says: `# mysite/settings.py, at the end`.
_TITLE = re.compile(r"^(?:# |// |\{# )([\w./-]+\.(?:py|html|js))(, at the end)?(?: #\})?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Args:
        language: the word after the fence.
        code: its text.
        line: the line of the page on which its code begins.
        file: the file that its first line names, if it does.
        appended: whether it is to be added to the end of that file.
    """

    language: str
    code: str
    line: int
    file: str | None = None
    appended: bool = False


def pages() -> list[Path]:
    """The README and every page of the documentation."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, code = match.groups()
        title = _TITLE.match(code.partition("\n")[0])
        found.append(
            Block(
                language=language,
                code=code,
                line=text.count("\n", 0, match.start()) + 2,
                file=title[1] if title else None,
                appended=bool(title and title[2]),
            )
        )
    return found


def without_code(text: str) -> str:
    """A page's text with its fenced blocks emptied."""
    return _FENCE.sub("", text)


def commands(block: Block) -> Iterator[str]:
    """The shell commands of a console block; one may go over several lines."""
    command = ""
    for line in block.code.splitlines():
        command = f"{command}\n{line}" if command else line
        try:
            shlex.split(command)
        except ValueError:
            continue  # a quotation is open
        if command.strip():
            yield command
        command = ""
    assert not command, f"an open quotation: {command}"
