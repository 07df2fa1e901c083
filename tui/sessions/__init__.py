"""What drives the screens: live machines, a recording, or a terminal without screens."""
