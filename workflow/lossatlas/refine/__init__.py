"""Phase diagrams from a part of their cells: interpolate the metrics, and choose what to measure."""
