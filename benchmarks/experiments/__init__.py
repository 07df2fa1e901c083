"""Experiments whose outcome the reference projects report."""
