"""The first minutes: where the machines are, and a tour of the screens."""
