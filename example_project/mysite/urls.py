"""URLs of the example project."""

from django.urls import include, path

urlpatterns = [
    path("", include("front.urls")),
    path("dashboard/", include("dashboard.urls")),
    path("chat/", include("chat.urls")),
    path("echo/", include("echo.urls")),
    path("realtime/", include("django_wsrealtime.urls")),
]
