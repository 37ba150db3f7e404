"""Leaves out the tests of the suite that are not meant for a broker, so that none is skipped."""

from __future__ import annotations

import pytest

from django_wsrealtime.testing.conformance import applies


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not _applies(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _applies(item: pytest.Item) -> bool:
    capabilities = getattr(getattr(item, "cls", None), "capabilities", None)
    return capabilities is None or applies(item, capabilities)
