"""Names in a cluster, made from the run id alone: whoever submits a run twice names the same objects. Pure."""

from __future__ import annotations

import re

RUN_LABEL = "paceline-run"
"""On every object of a run; its value is the run id. What carries it goes with the run."""
GROUP_LABEL = "paceline-devices"
"""On every pod: the class of its devices."""
EMULATED_LABEL = "paceline-emulated"
"""``true`` on every object of a run whose devices are emulated: it computes on processors."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "paceline", "app.kubernetes.io/name": "paceline"}
VOLUME_POD = "paceline-volume"
"""The pod through which the centre reaches the files of the claim."""
MAX_GROUP_CHARS = 20
"""A pod is called <job>-<group>-0-<index>-<5 characters>, of which 63 may be used."""


def object_name(run_id: str) -> str:
    """Name of the objects of a run: a DNS label (RFC 1035), as run ids begin with a digit."""
    return f"paceline-{dns_label(run_id)}"[:40].rstrip("-")


def dns_label(text: str) -> str:
    """Text as lower-case letters, digits and dashes; ``x`` where none is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def label_value(text: str) -> str:
    """Text as the value of a label: at most 63 characters, of which the first and the last are letters or digits."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-_.")


def product_label(device_name: str) -> str:
    """Value of ``nvidia.com/gpu.product``, by which NVIDIA's feature discovery labels machines: the name with dashes for spaces."""
    return label_value(device_name.replace(" ", "-"))
