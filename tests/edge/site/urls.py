"""URLs of the tags' site."""

from django.urls import path

from tests.urls import urlpatterns as test_site

from . import pages

urlpatterns = [
    path("crowd/", pages.crowd),
    path("password/", pages.change_password),
    *test_site,
]
