"""Runs that outlive machines: schedules of faults."""
