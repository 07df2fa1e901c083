"""Measured claims about data: how fast they stream, and what their loader costs."""
