"""The byte copy of a run directory at the centre, and the event log derived from it."""
