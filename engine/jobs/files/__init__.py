"""Files of a run brought to the centre, under names and in places that a node cannot choose."""
