"""Fixtures for the whole suite."""

from tests.databases import databases, server
from tests.loop import night, trained, trained_once, versions

__all__ = ["databases", "night", "server", "trained", "trained_once", "versions"]
