"""Measured claims about people's own training scripts."""
