"""The same jobs on Kubernetes: manifests of a plan, and a cluster as a node of the lab."""
