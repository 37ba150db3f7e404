"""Makes the animation in the README: two browsers on two servers follow the same orders.

``python -m tests.docs.picture`` needs Chromium and a redis-server, runs the example project in a
temporary directory, and writes ``docs/images/two-browsers.png``, an animated PNG.
"""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.docs.markdown import DOCS, ROOT
from tests.support.browser import open_chromium
from tests.support.processes import HOST, ChildProcess, accepts, free_port
from tests.support.redis import RedisServer

PICTURE = DOCS / "images" / "two-browsers.png"
MANAGE = ROOT / "example_project" / "manage.py"
WIDTH, HEIGHT = 560, 540  # of one browser, in pixels

STAGE = """<!doctype html><meta charset="utf-8"><style>
  body { margin: 0; padding: 14px; background: #26313f; color: #fff; width: max-content;
         font: 500 17px/1.3 system-ui, sans-serif }
  p { margin: 0 0 12px; text-align: center }
  div { display: flex; gap: 14px }
  figure { margin: 0; border-radius: 8px; overflow: hidden; position: relative }
  figcaption { padding: 5px 12px; font: 13px system-ui, sans-serif; color: #333;
               background: #d6dbe2 }
  img { display: block }
  i { position: absolute; width: 26px; height: 26px; margin: -13px; border-radius: 99px;
      background: #e0452bb0; border: 2px solid #fff }
</style><p>%(caption)s</p><div>%(figures)s</div>"""
FIGURE = (
    '<figure><figcaption>{address}</figcaption>{mark}<img src="data:image/png;base64,{image}">'
    "</figure>"
)


class Example:
    """The example project over Redis, in a directory of its own."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.directory = directory
        self.env = {
            **os.environ,
            "EXAMPLE_VAR_DIR": str(directory),
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis.url,
        }

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, str(MANAGE), *arguments], env=self.env, check=True)

    def shell(self, code: str) -> None:
        imports = "from dashboard.models import Customer, Order; from django.db import transaction"
        self.manage("shell", "-v0", "-c", f"{imports}\n{code}")

    def order(self, number: int, customer: str, total: str, note: str) -> None:
        """Save an order, in another process than those that serve."""
        self.shell(
            f"Order.objects.create(number={number}, store_id=1, total={total!r}, note={note!r},"
            f" customer=Customer.objects.get(name={customer!r}))"
        )

    @contextmanager
    def serve(self, port: int) -> Iterator[str]:
        server = ChildProcess(
            [sys.executable, str(MANAGE), "serve", "--port", str(port)],
            name=f"server on {port}",
            log=self.directory / f"{port}.log",
            env=self.env,
        )
        try:
            server.wait_ready(lambda: accepts(port), timeout=60)
            yield f"http://{HOST}:{port}"
        finally:
            server.kill()


class Film:
    """Shots of two pages side by side."""

    def __init__(self, browser: Browser, pages: dict[str, Page]) -> None:
        self._stage = browser.new_page(viewport={"width": 1200, "height": 640})
        self._pages = pages
        self.frames: list[tuple[bytes, int]] = []

    def shoot(self, caption: str, *, ms: int, pointing_at: Locator | None = None) -> None:
        """Add what the pages show now, for so many milliseconds."""
        figures = []
        for address, page in self._pages.items():
            mark = ""
            if pointing_at is not None and pointing_at.page is page:
                box = pointing_at.bounding_box()
                assert box is not None
                x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 28
                mark = f'<i style="left:{x}px;top:{y}px"></i>'
            image = base64.b64encode(page.screenshot(animations="disabled")).decode()
            figures.append(FIGURE.format(address=address, mark=mark, image=image))
        self._stage.set_content(STAGE % {"caption": caption, "figures": "".join(figures)})
        body = self._stage.locator("body").bounding_box()
        assert body is not None
        clip = {"x": 0, "y": 0, "width": round(body["width"]), "height": round(body["height"])}
        self.frames.append((self._stage.screenshot(clip=clip), ms))  # type: ignore[arg-type]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def animated(frames: list[tuple[bytes, int]]) -> bytes:
    """PNGs of one size as one animated PNG (PNG specification, third edition, section 11.3.5).

    Args:
        frames: each with the milliseconds for which it is shown.
    """
    header = next(data for kind, data in _chunks(frames[0][0]) if kind == b"IHDR")
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    parts.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    sequence = 0
    for number, (png, ms) in enumerate(frames):
        kinds = dict(_chunks(png))
        assert kinds[b"IHDR"] == header, "every frame has the size of the first"
        pixels = zlib.decompress(b"".join(data for kind, data in _chunks(png) if kind == b"IDAT"))
        packed = zlib.compress(pixels, 9)
        place_and_delay = struct.pack(">IIHHBB", 0, 0, ms, 1_000, 0, 0)
        control = struct.pack(">I", sequence) + header[:8] + place_and_delay
        parts.append(_chunk(b"fcTL", control))
        sequence += 1
        if number == 0:
            parts.append(_chunk(b"IDAT", packed))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", sequence) + packed))
            sequence += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _open(browser: Browser, address: str, name: str) -> Page:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.goto(f"{address}/login/?next=/dashboard/1/")
    page.get_by_role("button", name=f"Enter as {name}").click()
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    page.locator("tbody").evaluate(
        """table => {
            document.documentElement.style.overflowAnchor = "none";
            const header = document.querySelector("header").getBoundingClientRect();
            window.scrollBy(0, table.getBoundingClientRect().top - header.bottom - 6);
        }"""
    )
    return page


def _row(page: Page, number: int) -> Locator:
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=str(number)))


def make() -> None:
    """Write the picture anew."""
    expect.set_options(timeout=60_000)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = RedisServer(directory)
        redis.start()
        stack.callback(redis.stop)
        example = Example(directory, redis)
        example.manage("migrate", "-v0")
        example.manage("seed")
        one = stack.enter_context(example.serve(free_port()))
        port = free_port()
        stack.callback((second := ExitStack()).close)
        two = second.enter_context(example.serve(port))
        browser = stack.enter_context(open_chromium())
        ada, grace = _open(browser, one, "ada"), _open(browser, two, "grace")
        film = Film(browser, {"ada, on one server": ada, "grace, on another": grace})

        film.shoot("Two browsers, two servers, one table of orders", ms=2200)
        button = ada.get_by_role("button", name="Mark ready").first
        number = int(button.locator("xpath=ancestor::tr").locator("a").inner_text())
        film.shoot("Ada presses a button …", ms=1300, pointing_at=button)
        button.click()
        for page in (ada, grace):
            expect(_row(page, number)).to_have_attribute("data-status", "ready")
        film.shoot("… and both see the saved row", ms=2200)
        example.order(1101, "Kavya Iyer", "12.50", "from a shell")
        for page in (ada, grace):
            expect(_row(page, 1101)).to_be_visible()
        film.shoot("Somebody saves an order in a shell", ms=2400)
        second.close()
        example.order(1102, "Hiro Tanaka", "8.20", "while it was down")
        example.order(1103, "Elif Yılmaz", "4.80", "while it was down")
        expect(_row(ada, 1103)).to_be_visible()
        expect(grace.locator("html")).not_to_have_attribute("data-realtime", "open")
        film.shoot("The server on the right is killed; two more are saved", ms=2600)
        second.enter_context(example.serve(port))
        expect(_row(grace, 1103)).to_be_visible()
        expect(grace.locator("html")).to_have_attribute("data-realtime", "open")
        film.shoot("It is started again: nothing is missed, nothing is reloaded", ms=3200)
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(animated(film.frames))
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    make()
