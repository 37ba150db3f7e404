"""The test suite of django_wsrealtime."""
