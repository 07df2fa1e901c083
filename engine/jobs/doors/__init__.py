"""Who may reach a run: certificates of its runners, and lines for the firewalls of its nodes."""
