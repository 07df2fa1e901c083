"""Who belongs to a run: who is silent, and who goes on without whom. Pure: time is given, messages are returned."""
