"""An ordinary page and an ordinary save."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .models import Order


def orders(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/orders.html", {"orders": Order.objects.all()})


def new_order(request: HttpRequest, store_id: int, number: str) -> HttpResponse:
    order = Order.objects.create(store_id=store_id, number=number)
    return HttpResponse(str(order.pk))
