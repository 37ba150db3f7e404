"""The markup that template tags put into pages. Everything is escaped by ``format_html``."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString


def attributes(values: Mapping[str, object]) -> SafeString:
    """HTML attributes, each with a space before it; ``None`` leaves one out, ``True`` is bare."""
    return format_html_join(
        "",
        "{}",
        (
            (format_html(" {}", name) if value is True else _attribute(name, value),)
            for name, value in values.items()
            if value is not None
        ),
    )


def _attribute(name: str, value: object) -> SafeString:
    # escape(): what is safe as markup, as literals in templates are, may yet hold quotes.
    return format_html(' {}="{}"', name, escape(value))


def script(*, src: str, path: str, prefix: str | None, since: int, nonce: str | None) -> SafeString:
    """The script element of the browser client.

    Args:
        src: URL of ``wsrealtime.js``.
        path: where the WebSocket is served.
        prefix: where the HTTP endpoints are, without a slash at the end; ``None``: nowhere.
        since: broker time of the page, in microseconds.
        nonce: the page's CSP nonce.
    """
    return format_html(
        '<script type="module"{}></script>',
        attributes(
            {
                "src": src,
                "data-wsrealtime": True,
                "data-path": path,
                "data-prefix": prefix,
                "data-since": since,
                "nonce": nonce,
            }
        ),
    )


def connection(*, labels: Mapping[str, object]) -> SafeString:
    """An element that shows the connection's state, with the text for each state.

    Args:
        labels: state, as in ``realtime.state``, and what to show in it.
    """
    return format_html(
        '<wsrealtime-connection role="status"{}></wsrealtime-connection>',
        attributes({f"data-{state}": label for state, label in labels.items()}),
    )


def presence(*, topic: str, grant: str | None, since: int) -> SafeString:
    """An element that shows who is present in a topic.

    Args:
        topic: the topic's name.
        grant: the signed permission of the user the page is for.
        since: broker time of the page, in microseconds.
    """
    return format_html(
        "<wsrealtime-presence{}></wsrealtime-presence>",
        attributes({"topic": topic, "grant": grant, "since": since}),
    )
