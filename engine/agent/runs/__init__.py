"""The run directories of a node: written, locked, tailed, served and removed."""
