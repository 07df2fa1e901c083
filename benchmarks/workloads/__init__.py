"""What the models learn on the data sets, by their own scripts."""
