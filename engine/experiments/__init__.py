"""Many cases, one question."""
