"""Databases for AI Engineers: the names that notebooks use."""
