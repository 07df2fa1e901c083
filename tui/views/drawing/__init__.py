"""Styled lines, charts and sorting, shared by all views."""
