"""Published figures of cards, from the vendor's data sheets: dense products without sparsity, with sums in float32.

A card's own clocks, power limit and cooling move what it reaches; 45 to 110 % of the published figure counts as the same card.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_FRACTION, MOST_FRACTION = 0.45, 1.10


@dataclass(frozen=True)
class Published:
    """TFLOPS by format, and memory bandwidth in GB/s; None: not in hardware, or not published."""

    fp32: float
    tf32: float | None
    bf16: float | None
    fp16: float | None
    bandwidth: float


CARDS: dict[str, Published] = {
    "H200": Published(67, 494, 989, 989, 4800),
    "H100 NVL": Published(60, 417, 835, 835, 3900),
    "H100 PCIe": Published(51, 378, 756, 756, 2000),
    "H100": Published(67, 494, 989, 989, 3350),
    "A100-SXM4-80GB": Published(19.5, 156, 312, 312, 2039),
    "A100 80GB": Published(19.5, 156, 312, 312, 1935),
    "A100": Published(19.5, 156, 312, 312, 1555),
    "A30": Published(10.3, 82, 165, 165, 933),
    "A10": Published(31.2, 62.5, 125, 125, 600),
    "L40S": Published(91.6, 183, 362, 362, 864),
    "L40": Published(90.5, 90.5, 181, 181, 864),
    "L4": Published(30.3, 60, 121, 121, 300),
    "T4": Published(8.1, None, None, 65, 320),
    "V100": Published(15.7, None, None, 125, 900),
    "RTX A6000": Published(38.7, 77.4, 154.8, 154.8, 768),
    "RTX 4090": Published(82.6, 82.6, 165.2, 165.2, 1008),
    "RTX 3090": Published(35.6, 35.6, 71, 71, 936),
    "RTX 3060": Published(12.7, 12.7, 25.5, 25.5, 360),
    "RTX 3050": Published(9.1, 9.1, 18.2, 18.2, 224),
    "RTX 2080 Ti": Published(13.4, None, None, 53.8, 616),
    "GTX 1650": Published(3.0, None, None, None, 128),
}
"""By a part of the card's name; the first that matches counts, so longer names stand before shorter ones."""

PCIE_LANE_GBS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
"""GB/s of one PCIe lane in one direction, by generation."""


def published(name: str) -> Published | None:
    """The figures of a card by the name its driver gives; None: not in the table."""
    return next((figures for part, figures in CARDS.items() if part in name), None)
