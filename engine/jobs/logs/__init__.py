"""Log lines of a run: indexed, merged by time, formatted as text."""
