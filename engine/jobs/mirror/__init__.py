"""The byte copies of a run's directories at the centre, and the event log derived from them."""
