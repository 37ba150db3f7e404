"""The project's URLs."""

from django.urls import include, path
from shop import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("new/<int:store_id>/<str:number>/", views.new_order, name="new-order"),
    path("realtime/", include("django_wsrealtime.urls")),
]
