"""A source becomes .npy files and a manifest."""
