"""The HTTP endpoints for pages that are open: grants are renewed, the CSRF token is told."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST


@require_GET
@csrf_protect
def csrf(request: HttpRequest) -> HttpResponse:
    """Tell the CSRF token and set its cookie, so that pages without a form stay cacheable."""
    return _private(JsonResponse({"token": get_token(request)}))


@require_POST
@csrf_protect
def renew(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


def _private(response: HttpResponse) -> HttpResponse:
    add_never_cache_headers(response)
    patch_vary_headers(response, ["Cookie"])
    return response
