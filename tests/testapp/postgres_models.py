"""Models with fields that only PostgreSQL has."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, IntegerRangeField
from django.db import models


class Booking(models.Model):
    objects: ClassVar[models.Manager["Booking"]] = models.Manager()

    labels = ArrayField(models.CharField(max_length=20), default=list)
    period = DateTimeRangeField(null=True)
    seats = IntegerRangeField(null=True)

    class Meta:
        app_label = "testapp"

    def __str__(self) -> str:
        return f"booking {self.pk}"
