"""Records -> tidy tables, summaries of cells, phases."""
