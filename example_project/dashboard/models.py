"""Stores, their orders, and the prices of what they sell."""

from django.conf import settings
from django.db import models
from django.urls import reverse


class Store(models.Model):
    name = models.CharField(max_length=80)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="stores")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dashboard:store", args=[self.pk])


class Customer(models.Model):
    name = models.CharField(max_length=80)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        NEW = "new", "New"
        PREPARING = "preparing", "Preparing"
        READY = "ready", "Ready"
        DELIVERED = "delivered", "Delivered"

    store = models.ForeignKey(Store, on_delete=models.CASCADE, related_name="orders")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders")
    number = models.PositiveIntegerField(unique=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.NEW)
    total = models.DecimalField(max_digits=8, decimal_places=2)
    note = models.CharField(max_length=80, blank=True)
    archived = models.BooleanField(default=False)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-number"]
        indexes = [models.Index(fields=["store", "archived"])]

    def __str__(self) -> str:
        return f"order {self.number}"

    @classmethod
    def next_number(cls) -> int:
        """The number after the highest one. Call it inside a transaction: numbers are unique."""
        highest: int | None = cls.objects.aggregate(highest=models.Max("number"))["highest"]
        return (highest or 1000) + 1

    def mark_ready(self, note: str = "") -> None:
        self.status = self.Status.READY
        self.note = note or self.note
        self.save(update_fields=["status", "note", "updated"])

    def deliver(self) -> None:
        """Delivered orders are archived: they leave the table of open orders."""
        self.status = self.Status.DELIVERED
        self.archived = True
        self.save(update_fields=["status", "archived", "updated"])


class Tick(models.Model):
    """One price of one commodity at one time."""

    class Symbol(models.TextChoices):
        ARABICA = "arabica", "Arabica"
        ROBUSTA = "robusta", "Robusta"
        COCOA = "cocoa", "Cocoa"
        SUGAR = "sugar", "Sugar"

    KEPT = 240

    symbol = models.SlugField(max_length=12, choices=Symbol)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    time = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["symbol", "id"])]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"

    @classmethod
    def forget_old(cls, symbol: str, *, slack: int = 20) -> None:
        """Deletes all but the newest `KEPT` ticks of a symbol, once `slack` more have come."""
        keys = list(cls.objects.filter(symbol=symbol).values_list("pk", flat=True))
        if len(keys) >= cls.KEPT + slack:
            cls.objects.filter(pk__in=keys[: -cls.KEPT]).delete()
