"""What was learned, as figures and tables. Pure."""
