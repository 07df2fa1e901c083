"""Messages and files that the centre and a node both read and write: all that they share."""
