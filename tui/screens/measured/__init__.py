"""Screens of what was measured: profiles of devices, and experiments."""
