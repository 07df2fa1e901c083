"""How nodes are reached; the only importer of asyncssh."""
