"""URLs of the front page and of the accounts."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from front import views

urlpatterns = [
    path("", views.home, name="home"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("enter/", views.enter_as, name="enter"),
]
