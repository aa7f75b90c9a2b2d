"""Loss Atlas: maps the loss landscapes of neural networks.

Importing this package imports neither torch nor Snakemake; each submodule says what it needs.
"""

__version__ = "0.1.0"
