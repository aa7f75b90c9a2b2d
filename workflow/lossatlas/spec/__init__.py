"""Config models, canonical cells and ids. Imports neither torch nor Snakemake."""
