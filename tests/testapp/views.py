"""Pages of the test site, and a way to be somebody without typing a password."""

from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render


def page(request: HttpRequest) -> HttpResponse:
    """An almost empty page that loads the client; tests do the rest through ``page.evaluate``."""
    return render(request, "testapp/page.html")


def login_as(request: HttpRequest, username: str) -> HttpResponse:
    """Sign in as ``username``; answers 404 if there is no such user."""
    user = get_object_or_404(get_user_model(), username=username)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("page")


def logout_now(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("page")
