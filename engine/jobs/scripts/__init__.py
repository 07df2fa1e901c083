"""Training programs of a person's own: their files, what they import, and their part of a plan."""
