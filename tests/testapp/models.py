"""Models of a small shop, and one model for every kind of field a row may hold."""

import uuid
from decimal import Decimal
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_wsrealtime import RealtimeManager


class Store(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class StoreMembership(models.Model):
    """Who may see a store's orders."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    store = models.ForeignKey(Store, on_delete=models.CASCADE, related_name="memberships")

    def __str__(self) -> str:
        return f"{self.user} in {self.store}"


class Customer(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        NEW = "new", _("New")
        READY = "ready", _("Ready")
        DONE = "done", _("Done")

    store = models.ForeignKey(Store, on_delete=models.CASCADE, related_name="orders")
    customer = models.ForeignKey(
        Customer, on_delete=models.CASCADE, related_name="orders", null=True, blank=True
    )
    number = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.NEW)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=Decimal("0.00"))
    note = models.TextField(blank=True, default="")
    archived = models.BooleanField(default=False)
    tags = models.ManyToManyField(Tag, related_name="orders", blank=True)
    updated = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.number


class Shelf(models.Model):
    """What it points to may be deleted from under it."""

    tag = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True)

    def __str__(self) -> str:
        return f"shelf of {self.tag}"


class Part(models.Model):
    """Rows that are written many at a time."""

    objects: ClassVar[RealtimeManager] = RealtimeManager()

    shelf = models.IntegerField()
    code = models.CharField(max_length=20, unique=True)
    stock = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.code


class PartUse(models.Model):
    """Refers to a part."""

    part = models.ForeignKey(Part, on_delete=models.CASCADE, related_name="uses")

    def __str__(self) -> str:
        return f"use of {self.part}"


class ProxyOrder(Order):
    """The same rows under another class."""

    class Meta:
        proxy = True


class Payment(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="payments")
    amount = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.amount} for {self.order}"


class Place(models.Model):
    """The parent's table of a multi-table model."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    """The child's table of a multi-table model."""

    serves_pizza = models.BooleanField(default=False)


class Node(models.Model):
    """A tree: deleting a node cascades through its own table."""

    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="children")
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """A primary key that is neither an integer nor named ``id``."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Everything(models.Model):
    """One field of every kind that Django's core offers."""

    class Colour(models.IntegerChoices):
        RED = 1, _("red")
        BLUE = 2, _("blue")

    big_integer = models.BigIntegerField(null=True)
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=200, default="", blank=True)
    colour = models.IntegerField(choices=Colour.choices, default=Colour.RED)
    date = models.DateField(null=True)
    datetime = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    duration = models.DurationField(null=True)
    file = models.FileField(upload_to="files", blank=True)
    float = models.FloatField(null=True)
    ip = models.GenericIPAddressField(null=True)
    json = models.JSONField(null=True)
    text = models.TextField(default="", blank=True)
    time = models.TimeField(null=True)
    url = models.URLField(default="", blank=True)
    uuid = models.UUIDField(null=True)

    class Meta:
        verbose_name_plural = "everything"

    def __str__(self) -> str:
        return f"everything {self.pk}"


if settings.TEST_DATABASE == "postgres":
    from .postgres_models import Booking as Booking


class Parcel(models.Model):
    """What the site's own stream follows, so that tests of other streams are left alone."""

    depot = models.PositiveIntegerField()
    label = models.CharField(max_length=200)
    weight = models.DecimalField(max_digits=8, decimal_places=3, default=Decimal(0))

    def __str__(self) -> str:
        return self.label
