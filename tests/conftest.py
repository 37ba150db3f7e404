"""Registers the fixtures of tests/support for every test."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.plugin"]

# How long an example takes says something about the machine, not about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
