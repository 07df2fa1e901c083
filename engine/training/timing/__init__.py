"""Timing of steps: timers, the probe of every device, run-queue delay."""
