"""The code of the pages on streams runs as it stands, on the models of this test site."""

import sys
from types import ModuleType
from typing import Any

import pytest
from django.apps.registry import Apps

from django_wsrealtime.streams import check_streams
from tests.docs.markdown import DOCS, blocks
from tests.streams.conftest import Bus, Declare
from tests.testapp import models

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop of the documentation is this test site's app."""
    for name, module in (("shop", ModuleType("shop")), ("shop.models", models)):
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("page", ["model-streams", "bulk-changes", "several-databases"])
def test_the_code_of_a_page_runs(
    declare: Declare, bus: Bus, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    for alias in ("default", "other"):
        models.Store.objects.using(alias).create(pk=7, name="Seven")
    namespace: dict[str, Any] = {"__name__": f"{page}.md"}
    ran = 0
    for block in blocks(DOCS / "how-to" / f"{page}.md"):
        if block.language != "python":
            continue
        ran += 1
        if block.file == "shop/models.py":
            _declare_models(block.code)
            continue
        code = block.code.replace("shop_part", models.Part._meta.db_table)
        exec(compile(code, f"{page}.md:{block.line}", "exec"), namespace)
    assert ran
    assert check_streams() == []


def _declare_models(code: str) -> None:
    """Run a page's models.py beside the site's own models."""
    apps = Apps(installed_apps=["tests.testapp"])
    meta = (
        f"    class Meta:\n        app_label = 'testapp'\n        apps = APPS\n\n{' ' * 4}objects"
    )
    code = code.replace("    objects", meta)
    exec(compile(code, "models.py", "exec"), {"__name__": "tests.testapp.page", "APPS": apps})
