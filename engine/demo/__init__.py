"""Demo sessions: a lab, what is done on it, and what to look at; performed with real runs on emulated devices."""
