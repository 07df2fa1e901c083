"""Pure functions from the state to styled lines, one file or folder per screen."""
