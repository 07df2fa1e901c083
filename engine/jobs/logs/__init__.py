"""What the programs of a run wrote: indexed, merged by time, shown as text."""
