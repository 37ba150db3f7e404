"""App configuration of the front page, the accounts and the commands that serve the example."""

from django.apps import AppConfig


class FrontConfig(AppConfig):
    name = "front"
