"""Sessions: live machines, a recording, or a terminal without screens."""
