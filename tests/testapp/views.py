"""Pages of the test site, and a way to be somebody without typing a password."""

import threading

from django.contrib.auth import get_user_model, login, logout
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from tests.testapp.models import Parcel


def page(request: HttpRequest) -> HttpResponse:
    """An almost empty page that loads the client; tests do the rest through ``page.evaluate``."""
    return render(request, "testapp/page.html")


def depot(request: HttpRequest, depot: int) -> HttpResponse:
    """Shows a depot's parcels; ``?late=<label>`` renames the first one after it was read."""
    parcels = list(Parcel.objects.filter(depot=depot).order_by("pk"))
    if "late" in request.GET:
        _in_another_transaction(parcels[0].pk, request.GET["late"])
    return render(request, "testapp/depot.html", {"depot": depot, "parcels": parcels})


def _in_another_transaction(pk: int, label: str) -> None:
    def rename() -> None:
        try:
            parcel = Parcel.objects.get(pk=pk)
            parcel.label = label
            parcel.save()
        finally:
            connection.close()

    thread = threading.Thread(target=rename)
    thread.start()
    thread.join()


def login_as(request: HttpRequest, username: str) -> HttpResponse:
    """Sign in as ``username``; answers 404 if there is no such user."""
    user = get_object_or_404(get_user_model(), username=username)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("page")


def logout_now(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("page")
