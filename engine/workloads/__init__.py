"""Models and data sets by name, as torch-free tables of centre and ranks. docs/design/workloads.md tells the contracts."""

from .trainer import VOCABULARY, WORKLOADS, Workload, parameters_of

__all__ = ["VOCABULARY", "WORKLOADS", "Workload", "parameters_of"]
