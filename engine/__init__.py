"""Everything but the screen: reach the nodes, decide, train, measure. Imports nothing, so that any part starts alone."""
