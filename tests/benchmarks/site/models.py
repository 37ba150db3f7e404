"""Three equal tables: without a stream, with one, and with one that partitions its rows."""

from django.db import models


class OrderBase(models.Model):
    store_id = models.IntegerField(default=1)
    number = models.CharField(max_length=20)
    status = models.CharField(max_length=20, default="new")
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    customer = models.CharField(max_length=50, default="Ada Lovelace")
    note = models.CharField(max_length=100, default="leave it with the neighbour")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.number


class PlainOrder(OrderBase):
    pass


class StreamedOrder(OrderBase):
    pass


class PartitionedOrder(OrderBase):
    pass
