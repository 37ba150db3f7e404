"""Ordinary Django views: they save models, and every page that watches follows by itself."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from dashboard.charts import chart_of
from dashboard.forms import CustomerForm, EditOrderForm, OrderForm
from dashboard.models import Customer, Order, Store, Tick


def own_store(request: HttpRequest, store_id: int) -> Store:
    return get_object_or_404(Store, pk=store_id, members=request.user)


@login_required
def first_store(request: HttpRequest) -> HttpResponse:
    store = Store.objects.filter(members=request.user).first()
    return redirect(store) if store else redirect("home")


@login_required
def store(request: HttpRequest, store_id: int) -> HttpResponse:
    store = own_store(request, store_id)
    return render(request, "dashboard/store.html", store_page(request, store, OrderForm()))


def store_page(request: HttpRequest, store: Store, form: OrderForm) -> dict[str, object]:
    orders = store.orders.filter(archived=False).select_related("customer")
    charts = [chart_of(symbol) for symbol in Tick.Symbol]
    wanted = request.GET.get("symbol")
    return {
        "store": store,
        "stores": Store.objects.filter(members=request.user),
        "orders": orders,
        "totals": orders.aggregate(
            count=Count("pk"),
            waiting=Count("pk", filter=Q(status__in=[Order.Status.NEW, Order.Status.PREPARING])),
            ready=Count("pk", filter=Q(status=Order.Status.READY)),
            value=Sum("total", default=0),
        ),
        "charts": charts,
        "chosen": next((chart for chart in charts if chart.symbol == wanted), charts[0]),
        "blank": Order(pk=0, number=0, total=0, store=store, customer=Customer()),
        "form": form,
    }


@login_required
@require_POST
def create_order(request: HttpRequest, store_id: int) -> HttpResponse:
    store = own_store(request, store_id)
    form = OrderForm(request.POST)
    if not form.is_valid():
        return render(request, "dashboard/store.html", store_page(request, store, form), status=422)
    order = form.save(commit=False)
    order.store = store
    with transaction.atomic():
        order.number = Order.next_number()
        order.save()
    messages.success(request, f"Saved {order}.")
    return redirect(store)


@login_required
def edit_order(request: HttpRequest, store_id: int, pk: int) -> HttpResponse:
    store = own_store(request, store_id)
    order = get_object_or_404(store.orders, pk=pk)
    form = EditOrderForm(request.POST or None, instance=order)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"Saved {order}.")
        return redirect(store)
    context = {
        "store": store,
        "form": form,
        "title": f"Order {order.number}",
        "customer": order.customer,
    }
    return render(request, "dashboard/edit.html", context)


@login_required
@require_POST
def mark_ready(request: HttpRequest, store_id: int, pk: int) -> HttpResponse:
    store = own_store(request, store_id)
    get_object_or_404(store.orders, pk=pk).mark_ready()
    return redirect(store)


@login_required
@require_POST
def deliver(request: HttpRequest, store_id: int, pk: int) -> HttpResponse:
    store = own_store(request, store_id)
    get_object_or_404(store.orders, pk=pk).deliver()
    return redirect(store)


@login_required
def edit_customer(request: HttpRequest, store_id: int, pk: int) -> HttpResponse:
    store = own_store(request, store_id)
    customer = get_object_or_404(Customer.objects.filter(orders__store=store).distinct(), pk=pk)
    form = CustomerForm(request.POST or None, instance=customer)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"Saved {customer}.")
        return redirect(store)
    context = {"store": store, "form": form, "title": "Customer"}
    return render(request, "dashboard/edit.html", context)
