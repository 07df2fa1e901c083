"""The models that workloads train, in plain torch."""
