"""App configuration of the echo."""

from django.apps import AppConfig


class EchoConfig(AppConfig):
    name = "echo"
