"""Content-Security-Policy with a nonce on Django 5.2, spelled as in Django 6.0."""

import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

NONCE_PLACEHOLDER = "<CSP_NONCE_SENTINEL>"


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Sends `SECURE_CSP` with a fresh nonce. Delete it on Django 6.0 and use Django's own."""

    def process_request(self, request: HttpRequest) -> None:
        request._csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        policy = "; ".join(" ".join([name, *given]) for name, given in settings.SECURE_CSP.items())
        nonce = f"'nonce-{csp(request)['csp_nonce']}'"
        response.headers.setdefault(
            "Content-Security-Policy", policy.replace(NONCE_PLACEHOLDER, nonce)
        )
        return response


def csp(request: HttpRequest) -> dict[str, str]:
    """Context processor: `{{ csp_nonce }}` in templates."""
    return {"csp_nonce": getattr(request, "_csp_nonce", "")}
