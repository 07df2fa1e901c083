"""Files of a run fetched to the centre, under names and into directories that a node cannot choose."""
