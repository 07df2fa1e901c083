"""Our workloads as scripts on the library: ``paceline example NAME`` prints one. Nothing imports them."""
