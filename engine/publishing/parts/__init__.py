"""The tables and charts of each kind of result."""
