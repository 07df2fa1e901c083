"""Profiles of devices and links at the centre: stored, assembled, aged and compared."""
