"""One run as lines: head, ranks, decisions, phases, charts."""
