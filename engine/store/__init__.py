"""The state of a session: reduce(state, event) -> state, and selectors over it. Pure."""
