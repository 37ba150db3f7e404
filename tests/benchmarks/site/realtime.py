"""Our side: a public topic with the default history, and streams of two of the tables."""

from django_wsrealtime import ModelStream, Topic, register

from .models import PartitionedOrder, StreamedOrder

FIELDS = ["number", "status", "total", "customer", "note"]


@register("fanout/<slug:slug>")
class Fanout(Topic):
    public = True


@register("orders")
class Orders(ModelStream):
    model = StreamedOrder
    fields = FIELDS
    public = True


@register("store-orders/<int:store_id>")
class StoreOrders(ModelStream):
    model = PartitionedOrder
    fields = FIELDS
    partition_by = {"store_id": "store_id"}
    public = True
