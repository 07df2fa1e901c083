"""Files and bytes that cross between the centre and a node: the only modules that jobs and agent share."""
