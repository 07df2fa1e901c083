"""Event streams at the centre: fan-out, progress, recording and replay."""
