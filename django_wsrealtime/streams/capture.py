"""Hears Django's signals and marks the rows that change, for every stream that is concerned.

Only classes that some stream uses are listened to. A stream concerns the instances of its model, of
its proxies and children, the models it depends on, its parents, and the tables between
many-to-many relations; :mod:`.related` says which.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections
from django.db.models import Model
from django.db.models.fields import NOT_PROVIDED
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from ..instrumentation import logger
from ..topics import registry
from . import instances
from .changes import Changes, in_transaction, open_changes
from .membership import NO_TOPICS, Names, Plan
from .paths import UnknownLookup, family
from .pauses import pause
from .publication import publish_created
from .related import Between, Dependency, betweens, dependencies
from .rows import Row
from .suppression import is_suppressed

if TYPE_CHECKING:
    from .base import ModelStream

_CARRIED = "_wsrealtime_changes"
"""Where an instance's state keeps what was noted before a save that is in no transaction."""


@dataclass(slots=True)
class Watch:
    """Who wants to know of a class's instances."""

    plans: tuple[Plan, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    betweens: tuple[Between, ...] = ()


_lock = threading.RLock()
_watches: dict[type[Model], Watch] = {}
_plans: dict[type[ModelStream], Plan] = {}
_connected = False


# --- which classes are listened to ---------------------------------------------------------------


def connect() -> None:
    """Listen to the models of all registered streams, and of those registered from now on."""
    global _connected
    from .base import ModelStream

    with _lock:
        _connected = True
        for known in registry.routes():
            if issubclass(known.topic_class, ModelStream):
                added(known.topic_class)


def disconnect() -> None:
    """Listen to nothing any more."""
    global _connected
    with _lock:
        _connected = False
        for sender in _watches:
            for signal, receiver in _RECEIVERS:
                signal.disconnect(receiver, sender=sender, dispatch_uid=_uid(sender))
        _watches.clear()
        _plans.clear()


def added(stream: type[ModelStream]) -> None:
    """A stream was registered."""
    with _lock:
        if not _connected or stream in _plans:
            return
        try:
            plan = plan_of(stream)
        except UnknownLookup as error:  # `manage.py check` says so too
            logger.error("%s is not followed: %s.", stream.__qualname__, error)
            return
        classes = apps.get_models(include_auto_created=True)
        for sender in family(plan.model, classes):
            watch = _watch(sender)
            watch.plans = (*watch.plans, plan)
        for dependency in dependencies(plan):
            for sender in family(dependency.model, classes):
                watch = _watch(sender)
                watch.dependencies = (*watch.dependencies, dependency)
        for between in betweens(plan):
            watch = _watch(between.through)
            watch.betweens = (*watch.betweens, between)


def plan_of(stream: type[ModelStream]) -> Plan:
    """The plan of a registered stream."""
    with _lock:
        plan = _plans.get(stream)
        if plan is None:
            plan = _plans[stream] = Plan(stream)
        return plan


def plans_of(model: type[Model], using: str) -> list[Plan]:
    """The streams that instances of a model are rows of, in this database."""
    watch = _watches.get(model)
    return [plan for plan in watch.plans if plan.follows(using)] if watch is not None else []


def dependencies_on(model: type[Model], using: str) -> list[Dependency]:
    """What depends on instances of a model, in this database."""
    watch = _watches.get(model)
    if watch is None:
        return []
    return [one for one in watch.dependencies if one.plan.follows(using)]


def _watch(sender: type[Model]) -> Watch:
    watch = _watches.get(sender)
    if watch is None:
        watch = _watches[sender] = Watch()
        for signal, receiver in _RECEIVERS:
            signal.connect(receiver, sender=sender, weak=False, dispatch_uid=_uid(sender))
    return watch


def _uid(sender: type[Model]) -> str:
    return f"django_wsrealtime.{sender._meta.label}"


# --- saves ---------------------------------------------------------------------------------------


def concerns(names: Names | None, update_fields: Iterable[str] | None) -> bool:
    """Whether a save of these fields touches one of ``names`` (``None``: all of them)."""
    return names is None or update_fields is None or not names.isdisjoint(update_fields)


def before_save(
    sender: type[Model],
    instance: Model,
    using: str,
    update_fields: frozenset[str] | None = None,
    **kwargs: Any,
) -> None:
    """Note where rows are that this save may move."""
    if is_suppressed():
        return
    watch = _watches[sender]
    state: Any = instance._state
    changes: Changes | None = None
    new = state.adding and _will_insert(instance)
    for plan in watch.plans:
        if not plan.moves or not plan.follows(using) or not concerns(plan.moving, update_fields):
            continue
        pk = getattr(instance, plan.pk_attname)
        if pk is None or (new and sender._meta.concrete_model is plan.model._meta.concrete_model):
            continue
        changes = changes or open_changes(using)
        changes.note_rows(plan, [plan.pk_field.to_python(pk)])
    for dependency in watch.dependencies:
        if (
            dependency.moves
            and not state.adding
            and dependency.plan.follows(using)
            and concerns(dependency.names, update_fields)
        ):
            changes = changes or open_changes(using)
            changes.mark_related(dependency.plan, dependency.lookup, [instance.pk])
    if changes is not None and changes.bucket.immediate:
        state.__dict__[_CARRIED] = changes
    elif _CARRIED in state.__dict__:
        del state.__dict__[_CARRIED]  # left by a save that failed
    pause("write")


def _will_insert(instance: Model) -> bool:
    """Whether Django will not try an UPDATE first, which it does if it was given the key."""
    field = instance._meta.pk
    if getattr(instance, field.attname) is None:
        return True
    database_default = getattr(field, "db_default", NOT_PROVIDED)
    return field.has_default() or database_default is not NOT_PROVIDED


def after_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    using: str,
    update_fields: frozenset[str] | None = None,
    raw: bool = False,
    **kwargs: Any,
) -> None:
    """Mark the rows that this save has changed."""
    if is_suppressed():
        return
    watch = _watches[sender]
    changes: Changes | None = instance._state.__dict__.pop(_CARRIED, None)
    for plan in watch.plans:
        if not plan.follows(using) or not concerns(plan.interest, update_fields):
            continue
        pk = plan.pk_field.to_python(getattr(instance, plan.pk_attname))
        own = created and sender._meta.concrete_model is plan.model._meta.concrete_model
        if own and not raw and not in_transaction(using) and _publish(plan, instance, using, pk):
            continue
        changes = changes or open_changes(using)
        if own:
            changes.note(plan, pk, NO_TOPICS)
        changes.mark(plan, pk, plan.written(instance))
        if plan.filtering and not created and concerns(plan.moving, update_fields):
            changes.note_evidence(plan, pk, plan.evidence(instance))
    for dependency in watch.dependencies:
        if (
            dependency.deletions_only
            or (created and dependency.forward)
            or not dependency.plan.follows(using)
            or not concerns(dependency.names, update_fields)
        ):
            continue
        changes = changes or open_changes(using)
        changes.mark_related(dependency.plan, dependency.lookup, [instance.pk])
    if changes is not None and changes.bucket.immediate:
        changes.bucket.run()


def _publish(plan: Plan, instance: Model, using: str, pk: Any) -> bool:
    """Publish a row that was created outside a transaction, unless it has to be read again."""
    if plan.attributes is None:
        return False
    if connections[using].features.interprets_empty_strings_as_nulls:
        return False
    values = instances.values(instance, plan.attributes)
    if values is None:
        return False
    topics = plan.topic(tuple([values[index] for index in plan.partition_indices]))
    return publish_created(plan, using, pk, Row(values, topics))


# --- deletions -----------------------------------------------------------------------------------


def before_delete(
    sender: type[Model], instance: Model, using: str, origin: Any = None, **kwargs: Any
) -> None:
    """Mark the rows that are deleted, or lose a relation, when this instance is deleted.

    Django sends this within the transaction of the deletion, before any row is gone.
    """
    if is_suppressed():
        return
    watch = _watches[sender]
    changes = open_changes(using)
    for plan in watch.plans:
        if not plan.follows(using):
            continue
        pk = plan.pk_field.to_python(getattr(instance, plan.pk_attname))
        if not changes.knows(plan, pk):
            # An instance that Django has just loaded is as its row is; the caller's may not be.
            loaded = origin is not None and instance is not origin
            topics = plan.written(instance) if loaded and not plan.shape.filtered else None
            if topics is not None:
                changes.note(plan, pk, topics)
            elif plan.moves:
                changes.note_rows(plan, [pk])
            else:
                changes.note(plan, pk, plan.everywhere)
        changes.mark(plan, pk, NO_TOPICS)
    for dependency in watch.dependencies:
        if dependency.plan.follows(using):
            changes.mark_related(dependency.plan, dependency.lookup, [instance.pk])
    if changes.bucket.immediate:
        changes.bucket.run()


# --- many-to-many relations ----------------------------------------------------------------------


def before_m2m_change(
    sender: type[Model],
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Mark the rows whose relation changes; Django sends this within its transaction."""
    if is_suppressed() or action not in ("pre_add", "pre_remove", "pre_clear"):
        return
    changes = open_changes(using)
    for between in _watches[sender].betweens:
        if between.plan.follows(using):
            for lookup, values in between.rows(instance, reverse=reverse, pk_set=pk_set):
                changes.mark_related(between.plan, lookup, values)
    if changes.bucket.immediate:
        changes.bucket.run()


_RECEIVERS = (
    (pre_save, before_save),
    (post_save, after_save),
    (pre_delete, before_delete),
    (m2m_changed, before_m2m_change),
)
