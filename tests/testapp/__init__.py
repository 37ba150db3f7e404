"""The Django app that tests declare their topics on."""
