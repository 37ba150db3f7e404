"""``ModelStream``: the topics whose events are the rows of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import Model
from django.db.models.manager import BaseManager

from ..conf import conf
from ..instrumentation import count, warn_once
from ..topics.base import Topic
from ..topics.routes import Route
from . import capture, problems, rows

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from django.db.models import QuerySet


class ModelStream(Topic):
    """Topics that tell which rows of a model there are, and each change of them.

    ::

        @register("orders/<int:store_id>")
        class Orders(ModelStream):
            model = Order
            fields = ["number", "status", "total", "customer__name"]
            depends_on = {Customer: "customer"}
            partition_by = {"store_id": "store_id"}

            def can_subscribe(self, user):
                return user.stores.filter(pk=self.store_id).exists()

    A subscriber gets the rows there are (the snapshot), then an ``upsert`` with the committed
    values of each row that changes or enters, and a ``remove`` of each that leaves or is deleted.
    """

    model: ClassVar[type[Model]]
    """Whose rows."""
    fields: ClassVar[Sequence[str]] = ()
    """What is sent of a row: fields of the model, lookups across relations, annotations of
    :meth:`get_queryset`. Nothing is sent that is not named here, except the primary key."""
    depends_on: ClassVar[Mapping[type[Model], str | Sequence[str]]] = {}
    """Related models whose changes are news of the rows, each with the lookup that leads to it."""
    partition_by: ClassVar[Mapping[str, str]] = {}
    """Which topic a row belongs to: a field lookup for each parameter of the route."""

    keyed = True

    @classmethod
    def prepare(cls, route: Route) -> None:
        super().prepare(route)
        capture.added(cls)

    @classmethod
    def check(cls) -> list[CheckMessage]:
        """What is wrong with the declaration, as messages of Django's check framework."""
        return problems.check(cls)

    @classmethod
    def new_queryset(cls) -> QuerySet[Any, Any]:
        """What :meth:`get_queryset` returns; it is asked on behalf of no topic in particular."""
        return cls.__new__(cls).get_queryset()

    @classmethod
    def overrides_queryset(cls) -> bool:
        """Whether the application has a say in :meth:`get_queryset`, itself or by a manager."""
        manager = type(cls.model._default_manager)
        return (
            cls.get_queryset is not ModelStream.get_queryset
            or manager.get_queryset is not BaseManager.get_queryset
        )

    def get_queryset(self) -> QuerySet[Any, Any]:
        """The rows of all topics of this class; override it to leave some out.

        A row enters the topics when it begins to match and leaves them when it no longer does.
        It is called without the route's parameters, and its answer is used for up to a second.
        """
        return self.model._default_manager.all()

    def snapshot(self) -> dict[str, Any]:
        """The rows of this topic: ``{"rows": [{"pk", "row": {field: value}}]}``.

        In the order of the queryset, or of the primary key. At most ``snapshot_rows`` of them; if
        there are more, ``"truncated": True`` says so.
        """
        plan = capture.plan_of(type(self))
        limit = conf().limits.snapshot_rows
        queryset = self.new_queryset()
        if not queryset.ordered:
            queryset = queryset.order_by("pk")
        queryset = queryset.filter(
            **{path.lookup: self.params[name] for name, path in plan.partition.items()}
        )
        found = rows.collect(plan, queryset.values_list(*plan.columns)[: limit + 1])
        truncated = len(found) > limit
        if truncated:
            found.popitem()
            count("snapshot.truncated")
            warn_once(
                f"truncated:{self.name}",
                f"The topic {self.name!r} has more than {limit} rows; its snapshot holds the first"
                " ones. Narrow get_queryset(), or raise WSREALTIME['LIMITS']['snapshot_rows'].",
            )
        rows.read_multiple(plan, queryset.db, found)
        snapshot: dict[str, Any] = {"rows": [rows.item(plan, row) for row in found.values()]}
        if truncated:
            snapshot["truncated"] = True
        return snapshot
