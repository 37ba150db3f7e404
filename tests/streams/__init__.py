"""Tests of django_wsrealtime/streams."""
