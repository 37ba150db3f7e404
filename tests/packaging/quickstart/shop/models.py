"""Orders."""

from django.db import models


class Order(models.Model):
    store_id = models.IntegerField()
    number = models.CharField(max_length=20)
    status = models.CharField(max_length=10, default="new")

    def __str__(self) -> str:
        return self.number
