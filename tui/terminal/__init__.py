"""What a terminal gets: bytes, ASCII, and the gate for remote text."""
