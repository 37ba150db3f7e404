"""URLs of the test site: the realtime routes, static files, and the pages browser tests open."""

from django.contrib.staticfiles.views import serve
from django.urls import include, path

from tests.testapp import views

urlpatterns = [
    path("", views.page, name="page"),
    path("depot/<int:depot>/", views.depot, name="depot"),
    path("login/<str:username>/", views.login_as, name="login-as"),
    path("logout/", views.logout_now, name="logout-now"),
    path("realtime/", include("django_wsrealtime.urls")),
    path("static/<path:path>", serve, {"insecure": True}),
]
