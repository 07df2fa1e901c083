"""Events on their way in: fan-out, recording, replay."""
