"""How long a step takes and on what: timers, the probe, run-queue delay."""
