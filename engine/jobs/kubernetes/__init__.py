"""A cluster as a node of the lab: its API, the pods of a run, and the files of its volume."""
