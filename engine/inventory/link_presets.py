"""Networks by name for ``[link] preset = "wifi"`` and ``scale --links``: what an emulated lab is told to have."""

from __future__ import annotations

from ..specs import LinkSpec

LINK_PRESETS = {
    "lan": LinkSpec(latency=0.0002, bandwidth=117e6, jitter=0.02),
    "wifi": LinkSpec(latency=0.003, bandwidth=20e6, jitter=0.3),
}
"""``lan``: gigabit Ethernet through one switch, of which TCP carries 117 MB a second. ``wifi``: Wi-Fi 5 in a busy room, 160 Mbit/s
shared by all, 3 ms. Declared values for emulation, not measurements."""
