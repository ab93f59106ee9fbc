"""Right answers changed by a machine, one mistake at a time: what the judges let pass shows their gaps."""
