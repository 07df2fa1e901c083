"""Labelled images as arrays of bytes."""
