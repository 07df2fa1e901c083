"""One run as lines: head, ranks, decisions, phases and charts."""
