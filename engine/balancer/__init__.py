"""How to share a batch between unlike devices. Pure."""
