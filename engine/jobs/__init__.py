"""Launch jobs, follow their runs, and bring files and logs back to the centre."""
