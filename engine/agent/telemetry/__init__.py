"""Readings of one node: host, devices, disks, network links."""
