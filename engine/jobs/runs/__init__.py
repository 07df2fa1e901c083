"""Runs that exist: list, attach, cancel, clean, and their result."""
