"""The app on a moment of a recording, drawn without a terminal: ``paceline picture --of``."""
