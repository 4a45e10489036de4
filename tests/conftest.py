"""Fixtures for the whole suite."""

from tests.databases import databases, server

__all__ = ["databases", "server"]
