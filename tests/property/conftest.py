"""Hypothesis as this project wants it: a slow machine is no failure, so no example has a deadline."""

from hypothesis import settings

settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")
