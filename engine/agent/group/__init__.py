"""The group of a run on one node: its store, and who belongs to it when ranks or nodes are lost."""
