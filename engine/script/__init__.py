"""Training programs of people: the library behind ``import paceline``, and the doors that balance unchanged scripts."""
