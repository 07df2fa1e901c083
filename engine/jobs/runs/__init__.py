"""Existing runs: list, attach, cancel, clean, and their results."""
