"""The detached process that owns one run on one node, and the processes it needs to outlive its login."""
