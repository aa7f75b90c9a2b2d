"""Loss Atlas: maps the loss landscapes of neural networks.

Importing this package imports neither torch nor Snakemake; each submodule says what it needs.
"""

import os

from lossatlas.figures import Drawn, Tables, figure

__all__ = ["Drawn", "Tables", "figure"]
__version__ = "0.1.0"

# MKL's kernels choose their order of summation by how memory happens to be aligned, unless they are
# told not to before their first call: a resumed job would then differ in its last bits. Measured on
# AVX2: no operation of torch depends on alignment with AUTO, and it costs no time.
os.environ.setdefault("MKL_CBWR", "AUTO")
