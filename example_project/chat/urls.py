"""URLs of the chat."""

from django.urls import path

from chat import views

app_name = "chat"
urlpatterns = [
    path("", views.first_room, name="home"),
    path("<slug:slug>/", views.room, name="room"),
]
