"""Each wrong declaration is named, with its fix; right ones are not."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Count, QuerySet

from django_wsrealtime.streams import ModelStream, check_streams
from tests.streams.conftest import Declare
from tests.testapp.models import Customer, Order, Payment, Store, Tag

SOUND: dict[str, Any] = {"model": Order, "fields": ["number"]}


def ids(stream: type[ModelStream]) -> list[str]:
    return [str(message.id).removeprefix("wsrealtime.") for message in stream.check()]


class Filtered(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().filter(customer__name="Ann")


class Sliced(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset()[:5]


class OfAnother(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        return Store.objects.all()


class Counted(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset().annotate(paid=Count("payments"))
        return queryset


class Base(models.Model):
    class Meta:
        abstract = True
        app_label = "testapp"


@pytest.mark.parametrize(
    ("expected", "route", "bases", "attributes"),
    [
        ([], "a", (ModelStream,), SOUND),
        ([], "a/<int:store>", (ModelStream,), {**SOUND, "partition_by": {"store": "store_id"}}),
        ([], "a", (ModelStream,), {"model": Order, "fields": ["updated__date", "tags"]}),
        (
            [],
            "a",
            (ModelStream,),
            {
                "model": Payment,
                "fields": ["order__customer__name"],
                "depends_on": {Order: ["order"], Customer: "order__customer"},
            },
        ),
        ([], "a", (Filtered,), {**SOUND, "depends_on": {Customer: "customer"}}),
        (
            [],
            "a",
            (Counted,),
            {"model": Order, "fields": ["paid"], "depends_on": {Payment: "payments"}},
        ),
        (["E101"], "a", (ModelStream,), {"fields": ["number"]}),
        (["E101"], "a", (ModelStream,), {"model": Base, "fields": ["number"]}),
        (["E103"], "a", (ModelStream,), {"model": Order}),
        (["E103"], "a", (ModelStream,), {"model": Order, "fields": "number"}),
        (["E104"], "a", (ModelStream,), {"model": get_user_model(), "fields": ["password"]}),
        (["E105"], "a", (ModelStream,), {"model": Order, "fields": ["nmber"]}),
        (
            ["E105"],
            "a/<int:s>",
            (ModelStream,),
            {**SOUND, "partition_by": {"s": "stor_id"}},
        ),
        (["E105"], "a", (ModelStream,), {**SOUND, "depends_on": {Tag: "number"}}),
        (["E106"], "a/<int:store>", (ModelStream,), SOUND),
        (["E106"], "a", (ModelStream,), {**SOUND, "partition_by": {"store": "store_id"}}),
        (["E107"], "a", (ModelStream,), {"model": Order, "fields": ["customer__name"]}),
        (["E107"], "a", (ModelStream,), {"model": Order, "fields": ["tags__name"]}),
        (
            ["E107"],
            "a",
            (ModelStream,),
            {
                "model": Payment,
                "fields": ["order__customer__name"],
                "depends_on": {Customer: "order__customer"},
            },
        ),
        (
            ["E107"],
            "a/<int:s>",
            (ModelStream,),
            {"model": Payment, "fields": ["amount"], "partition_by": {"s": "order__store_id"}},
        ),
        (["E108"], "a", (ModelStream,), {**SOUND, "depends_on": {Store: "customer"}}),
        (["E109"], "a", (Sliced,), SOUND),
        (["E110"], "a", (OfAnother,), SOUND),
        (["W101"], "a", (Filtered,), SOUND),
        (["W101"], "a", (Counted,), {"model": Order, "fields": ["paid"]}),
    ],
)
def test_declarations(
    declare: Declare,
    expected: list[str],
    route: str,
    bases: tuple[type, ...],
    attributes: dict[str, Any],
) -> None:
    stream = declare(route, bases=bases, **attributes)
    assert ids(stream) == expected
    assert [message for message in check_streams() if message.obj is stream] == stream.check()


def test_a_problem_names_its_fix(declare: Declare) -> None:
    stream = declare("a", model=Order, fields=["customer__name"])
    (message,) = stream.check()
    assert "testapp.Customer are not followed" in message.msg
    assert message.hint == "Add it: depends_on = {Customer: 'customer'}."
