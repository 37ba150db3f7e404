"""No pages: only WebSockets are measured."""

urlpatterns: list[object] = []
