"""Fixtures of the catalogue's tests."""

from tests.test_task import start

__all__ = ["start"]
