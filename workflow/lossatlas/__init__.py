"""Loss Atlas: maps the loss landscapes of neural networks.

Importing this package imports neither torch nor Snakemake; each submodule says what it needs.
What plug-ins are written with is here: `import lossatlas as la`, then `la.Metric`, `la.Output`,
`la.Value`, `la.Series`, `la.Task` and `la.Optimiser`; figures with `la.figure`, `la.Tables`,
`la.Style` and `la.Drawn`. `la.Network` and `la.TensorData` are the types of what metrics get.
`lossatlas.load(cell, seed)` returns a replica of a cell of the workflow as a torch module, with its
data and its loss. For notebooks, on modules and data of one's own: `lossatlas.hessian`, `connect`,
`align`, `similarity`, `grow_simplex`, `plane`, `msd` and `read_checkpoint` (docs/notebook.md).
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossatlas.data.tensors import TensorData as TensorData
    from lossatlas.metrics.base import Metric as Metric
    from lossatlas.metrics.base import Output as Output
    from lossatlas.metrics.base import Value as Value
    from lossatlas.metrics.network import Network as Network
    from lossatlas.notebook.alignment import align as align
    from lossatlas.notebook.measures import connect as connect
    from lossatlas.notebook.measures import grow_simplex as grow_simplex
    from lossatlas.notebook.measures import hessian as hessian
    from lossatlas.notebook.measures import plane as plane
    from lossatlas.notebook.measures import similarity as similarity
    from lossatlas.notebook.networks import read_checkpoint as read_checkpoint
    from lossatlas.notebook.walks import msd as msd
    from lossatlas.replicas import load as load
    from lossatlas.spec.figures import Style as Style
    from lossatlas.store import Series as Series
    from lossatlas.tasks import Task as Task
    from lossatlas.training.optimisers import Optimiser as Optimiser

from lossatlas.figures import Drawn, Tables, figure
from lossatlas.lazy import exported

__all__ = ["Drawn", "Tables", "figure"]
__version__ = "0.1.0"

# MKL's kernels choose their order of summation by how memory happens to be aligned, unless they are
# told not to before their first call: a resumed job would then differ in its last bits. Measured on
# AVX2: no operation of torch depends on alignment with AUTO, and it costs no time.
os.environ.setdefault("MKL_CBWR", "AUTO")

_HOMES = {
    "Metric": "metrics.base",
    "Network": "metrics.network",
    "Optimiser": "training.optimisers",
    "Output": "metrics.base",
    "Series": "store",
    "Style": "spec.figures",
    "Task": "tasks",
    "TensorData": "data.tensors",
    "Value": "metrics.base",
    "align": "notebook.alignment",
    "connect": "notebook.measures",
    "grow_simplex": "notebook.measures",
    "hessian": "notebook.measures",
    "load": "replicas",
    "msd": "notebook.walks",
    "plane": "notebook.measures",
    "read_checkpoint": "notebook.networks",
    "similarity": "similarity",
}

__getattr__, __dir__ = exported(__name__, _HOMES)
