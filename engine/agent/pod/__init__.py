"""What runs in a pod of a cluster: finds its part of the plan and its peers, and runs the same runner as on every node."""
