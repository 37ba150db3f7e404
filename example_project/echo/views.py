"""The page of the echo."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from echo.consumers import HANG_UP, MAX_BYTES


def page(request: HttpRequest) -> HttpResponse:
    return render(request, "echo/page.html", {"hang_up": HANG_UP, "max_bytes": MAX_BYTES})
