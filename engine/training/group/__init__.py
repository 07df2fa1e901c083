"""The process group of a run: rendezvous, backend, the facts of a rank's process, and errors caused by other ranks."""
