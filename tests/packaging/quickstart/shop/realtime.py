"""What browsers may follow."""

from typing import Any

from django_wsrealtime import ModelStream, register

from .models import Order


@register("orders/<int:store_id>")
class Orders(ModelStream):
    model = Order
    fields = ["number", "status"]
    partition_by = {"store_id": "store_id"}
    public = True

    def can_subscribe(self, user: Any) -> bool:
        return True
