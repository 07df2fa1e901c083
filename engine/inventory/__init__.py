"""Which machines exist: nodes.toml and node sets."""
