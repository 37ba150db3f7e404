"""What browsers may follow on the dashboard: the open orders of a store, the prices of a symbol."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from dashboard.models import Customer, Order, Tick
from django_wsrealtime import History, ModelStream, Presence, action, register


@register("orders/<int:store_id>")
class Orders(ModelStream):
    """The open orders of one store, for its members."""

    model = Order
    fields = ["id", "number", "status", "total", "note", "customer__name", "updated"]
    depends_on = {Customer: "customer"}
    partition_by = {"store_id": "store_id"}
    history = History(size=500, ttl=600)
    presence = Presence()

    def get_queryset(self) -> QuerySet[Order]:
        return super().get_queryset().filter(archived=False)

    def can_subscribe(self, user: User) -> bool:
        return user.stores.filter(pk=self.store_id).exists()

    @action(throttle="5/s")
    def mark_ready(self, ctx: Any, order_id: int, note: str = "") -> dict[str, Any]:
        order = get_object_or_404(Order, pk=order_id, store_id=self.store_id)
        order.mark_ready(note)
        self.publish("flash", {"text": f"{ctx.user} marked {order} as ready"}, origin=ctx)
        return {"number": order.number}

    @action(throttle="5/s")
    def deliver(self, ctx: Any, order_id: int) -> dict[str, Any]:
        order = get_object_or_404(Order, pk=order_id, store_id=self.store_id)
        order.deliver()
        self.publish("flash", {"text": f"{ctx.user} delivered {order}"}, origin=ctx)
        return {"number": order.number}


@register("ticks/<slug:symbol>")
class Ticks(ModelStream):
    """The last prices of one commodity, for everyone."""

    model = Tick
    fields = ["price", "time"]
    partition_by = {"symbol": "symbol"}
    history = History(size=500, ttl=600)
    public = True
