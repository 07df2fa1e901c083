"""A source becomes .npy files and a manifest: ``from paceline.engine.datasets.preparation import prepare``."""
