"""URLs of the dashboard."""

from django.urls import path

from dashboard import views

app_name = "dashboard"
urlpatterns = [
    path("", views.first_store, name="home"),
    path("<int:store_id>/", views.store, name="store"),
    path("<int:store_id>/new/", views.create_order, name="create"),
    path("<int:store_id>/orders/<int:pk>/", views.edit_order, name="edit"),
    path("<int:store_id>/orders/<int:pk>/ready/", views.mark_ready, name="ready"),
    path("<int:store_id>/orders/<int:pk>/deliver/", views.deliver, name="deliver"),
    path("<int:store_id>/customers/<int:pk>/", views.edit_customer, name="customer"),
]
