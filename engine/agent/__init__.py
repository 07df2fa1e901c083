"""What runs on a node beside training: readings, runner, file tails. Standard library only."""
