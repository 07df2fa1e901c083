"""What is true now: reduce(state, event) -> state, and the questions asked of it. Pure."""
