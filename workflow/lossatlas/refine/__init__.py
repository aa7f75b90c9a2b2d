"""Phase diagrams from a part of their cells: what the others are, and what to measure next."""
