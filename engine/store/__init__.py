"""What is true now, folded from events. Pure."""
