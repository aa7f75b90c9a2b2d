"""Writes what users read of the config from its types: config/README.md and the JSON schema.

`python -m lossatlas.spec.document` writes both; a test fails when they have drifted.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lossatlas import paths
from lossatlas.metrics import registry
from lossatlas.metrics.base import Metric
from lossatlas.spec.catalogue import NETWORKS, data_sources, files_of
from lossatlas.spec.cells import LOAD_AXES, TEMPERATURE_AXES
from lossatlas.spec.config import Config, Experiment, json_schema
from lossatlas.spec.figures import FIGURES, Figure, Thresholds
from lossatlas.spec.parts import Augment, DataPart, EarlyStop, ModelPart, Recipe, Recording, Text
from lossatlas.spec.refining import Refine
from lossatlas.spec.varying import Varying

README = paths.PROJECT / "config" / "README.md"
SCHEMA = paths.PROJECT / "workflow" / "schemas" / "config.schema.json"

INTRODUCTION = """\
# Every key of the config

*Written by `python -m lossatlas.spec.document` from the types in `workflow/lossatlas/spec/`.*

`config.yaml` is the default atlas. `--configfile FILE` with a file that has `experiments` takes its
place; a file without changes just the keys that it names (mappings are merged, lists replaced).
Name targets before options: `--configfile` takes all that follows it.
Unknown keys are refused, with the nearest valid name. Threads, memory and partitions are not here:
they belong to the machine, and stand in `profiles/`.

| file | what it runs |
|---|---|
| `config.yaml` | the default atlas: embedded data, minutes on a laptop |
| `config/smoke.yaml` | four tiny cells, for tests |
| `config/taxonomy.yaml` | the taxonomy paper at its own scale, for GPUs |
| `config/simplex.yaml` | the simplex paper at its own scale, for GPUs |
| `config/diffusion.yaml` | the diffusion paper at its own scale, for GPUs |
| `config/diffusion_networks.yaml` | the other networks of that paper's code |
| `config/fashion.yaml` | a phase diagram of Fashion-MNIST, for two CPU cores |

`snakemake plan --configfile FILE` prints what a config costs before anything is spent;
`snakemake all report --configfile FILE --config rehearse=true` runs it small first, on made data,
into `results/rehearsal/`.

Each config has a name: its key `name`, or else that of its file without `.yaml` (of several files
with `experiments`, all their names). Its figures, tables, claims and report are in
`results/<name>/`, those of `config.yaml` in `results/` itself. Cells, data, downloads and studies
are shared by all configs of a project. Two configs cannot have one name.
"""


PLUGINS = """\
## Plug-ins

A network (`builder`), a data set (`source`), a figure (`draws`) and a metric (`kind`) may be your
own: `package.module:object`. **A plug-in is code that runs, with your rights.** Its module lies
in the folder in which you start (or in a package there), or belongs to an installed distribution
that declares an entry point in one of the groups `lossatlas.models`, `lossatlas.datasets`,
`lossatlas.figures` and `lossatlas.metrics`; the name of such an entry point will do in place of
`package.module:object`. Everything else is refused: to use what another package has, write a
module with `from package import object`, and name that one. A name that two packages declare, or
a package and Loss Atlas, is refused.

`plugins: off` (or `--config plugins=off`, or the environment variable `LOSSATLAS_PLUGINS=off`)
imports and runs nothing of them. `plan` and `-n` then still work, with what can be known:
arguments are not checked, the shape of data that an object gives is unknown, as are time and
disk. Jobs that would need a plug-in end with one line.
"""


METRICS = '''\
## metrics.&lt;name&gt;

A metric's name is its kind, or the key `kind` says which it is: so one experiment can measure
`hessian` and `hessian_paper: {kind: hessian, mode: paper}`. Figures and claims show the first of a
kind that the experiment lists; `tables/<experiment>.csv` has all, the rows of the others named
`hessian_paper.hessian_trace` and the like.

A metric of your own is a class in a file of the folder in which you start (or an entry point of an
installed package, in the group `lossatlas.metrics`); the other keys are its settings:

```python
# gradient_norm.py
import lossatlas as la


class GradientNorm(la.Metric):
    """L2 norm of the gradient of the mean loss of the first training images."""

    per = "replica"  # or "pair": measure(net, other, data), or "cell": measure(nets, data)
    samples: int = 1000
    outputs = [la.Output("gradient_norm", unit="nats", doc="norm of that gradient")]

    def measure(self, net, data):
        return la.Value(net.gradient(data.train[: self.samples]).norm())
```

```yaml
metrics:
  slope: {kind: "gradient_norm:GradientNorm", samples: 500}
```

The file is imported, and so run, whenever the config is read: `import torch` inside `measure` keeps
that fast. `net` has `seed`, `parameters`, `flat`, `net(images)`, `loss`, `gradient`, `hessian` and
`features` (`lossatlas.metrics.network`); `data` has `train` and `test`, with `images` and `labels`.
Several numbers are a dictionary by the names of the outputs. What else can be declared (cost,
checks, files that are read) stands in `lossatlas.metrics.base`; the built-in metrics in
`lossatlas.metrics` are written in the same way. Each replica or pair is measured once: one more
seed measures what is new.
'''


_VARYING = """\
A setting that is a number can vary with an axis. Of curves that see as many images whatever the
amount of data (50 passes over all, 500 over a tenth):

```yaml
metrics:
  connectivity: {epochs: {per: data_fraction, times: 50, power: -1, round: nearest}}
```

It is worked out for each cell when the config is read. Results know the number alone: a cell for
which it is 50 is measured as with `epochs: 50`. Settings that cost memory or time alone (`chunk`)
do not vary.\
"""


_OWN_DATA = """\
Your own, without a row there: the path of an `.npz`, relative to the folder in which you start,
or `package.module:object`: a mapping, or a function without arguments that returns one. Which
arrays both have is said in `resources/README.md`.

Cells are named by the content of your own data: by the SHA-256 of the file, or of the arrays that
the object gives. A new time or another folder changes nothing; other data are other cells, and
the results of the old ones stay. Data are looked at when the config is read, in a process of its
own, and again only when the file has changed, or for an object: its module, what that imports
beside it, or a file below the working folder that Python opened meanwhile. An object that gives
other arrays each time is refused by the job that converts them.\
"""


_TEXT = """\
Sentence pairs, with `task: translation`: of a row of the table, or of text files of your own, in
UTF-8, a sentence per line and its translation on the same line of the other file:

```yaml
datasets:
  iwslt2016_de_en: {task: translation, text: {pairs: 4000, vocabulary: 4000}}
  mine:
    task: translation
    text: {train: [train.de, train.en], test: [test.de, test.en], vocabulary: 2000, longest: 64}
```

Both languages share one vocabulary of subwords, learned by sentencepiece from the training pairs
that are used, and kept with the data. Pairs of which a side is empty are left out; so are training
pairs with a side of more than `longest` tokens (how many, the data's file says), but no test pair.
Networks take `source` (N, S) and `before` (N, L), with 0 as padding and 2, 3 for begin and end of
a sentence; `test_bleu` is of greedy translations of the whole test split. A name here tells the
content of the files and these settings, so that other ones are other cells.\
"""


_OWN_FIGURES = """\
A figure under a name of your own says with `draws` which of these it is, or names a function of
yours, `package.module:object`, above which `@la.figure(scalars=["performance"])` says whose
tables it reads (`examples/figure`), and `axes=["load"]` which axes an experiment must have. The
file is read for that, and not run.\
"""


_AUGMENT = """\
Images are cropped as raw pixels, padded with black, and normalised after that. What trains on from
such replicas (`connectivity`, `simplex`, `espro`) does the same to its batches; nothing that
measures does.\
"""


_PAPER_NAMES = """\
The diffusion paper's names: `resnet14_noshort` is `resnet_cifar` with `depth: 14, shortcut:
false`; `resnet14_nobatchnorm` has `norm: partial` (that of the stem and of the shortcuts remains;
`none` has none at all); `wrn14_2` has `width: 2`; `resnet50_noshort` is `resnet_imagenet` with
`depth: 50, shortcut: false`; `alex`, `densenet121`, `vit` and `simplenet` are `alexnet`,
`densenet`, `vit_token` and `mnist_net`; `fc20` is `fully_connected` with `depth: 20`. Its linear
layers all start with a standard deviation of 0.001, whatever their size: `linear_std: 0.001`;
with 0 they start as PyTorch's do. With 0.001, `fully_connected` of depth 20 and more cannot
start: its output vanishes.\
"""


_ELSEWHERE = """\
### Networks trained elsewhere

`checkpoints` in place of training makes cells of files that you have: nothing is trained, and
every metric, table and figure works on them, but for metrics of the path of training
(`diffusion`, `hessian_path`, the checkpoints `best` and `early`).

```yaml
experiments:
  mine:
    dataset: digits
    model: mine                     # {builder: "mynet:Net"}, or a built-in
    checkpoints: runs/width={width}/batch={batch_size}/seed={seed}.pt
    metrics: [performance, hessian, connectivity, cka, distance]
```

A pattern is a path from the folder in which you start. `{seed}` and `{axis}` stand for a number
each, `*` for anything but `/`. A table (`.csv`, `.tsv`) has a row per file: the columns `file` (a
path from the same folder), `seed`, and one per axis; other columns are not read. Axes of the
model are arguments of its builder; those of the data are put on the data set as for any cell
(noise is drawn by Loss Atlas: where yours was another, give your own data); those of the recipe
are noted. `load`, `temperature` and `seeds`, if they are there, choose: just files with these
values are taken.

A file is a state dict, as `torch.save` or safetensors wrote it, also under `state_dict`,
`model_state_dict`, `model` or `net`, and with the prefixes of DataParallel and `torch.compile`.
Nothing that it brings along is run. Images are normalised as `datasets.<name>` says (`mean`,
`std`): make that what the networks were trained with. BatchNorm's statistics are those of the
file; metrics that estimate them anew do so, as for any cell.

A replica is the SHA-256 of its file: one that changes is measured again, one that is moved,
renamed or copied is not. A cell of the grid without files is left out (figures show a cross),
one with fewer seeds has fewer replicas; `plan`, `status` and each run name them. Weights that are
NaN or infinite are data: the replica has diverged. Two files for one replica are refused, as are
files that do not fit the model and the classes.

What is not known of training is not made up: a cell's specification has the settings of its axes,
and the keys that the experiment's `recipe` sets, if it names one (`augment` is what
`connectivity` and simplexes then do to their batches; `espro` asks for `epochs`). Experiments
with equal cells and other files need an `origin` each: a word, such as `adam`, that tells them
apart.\
"""


def markdown() -> str:
    """Return config/README.md."""
    sections = [
        INTRODUCTION,
        _section("Top level", Config, "One block of each kind of part."),
        PLUGINS,
        _section("datasets.&lt;name&gt;", DataPart, _data_text()),
        _section("datasets.&lt;name&gt;.text", Text, _TEXT),
        _section("models.&lt;name&gt;", ModelPart, _model_text()),
        _section("recipes.&lt;name&gt;", Recipe, "SGD on the mean cross entropy."),
        _section("recipes.&lt;name&gt;.early_stop", EarlyStop, ""),
        _section("recipes.&lt;name&gt;.augment", Augment, _AUGMENT),
        _section("recipes.&lt;name&gt;.record", Recording, ""),
        _section("experiments.&lt;name&gt;", Experiment, _axes_text()),
        _section("experiments.&lt;name&gt;.refine", Refine, ""),
        f"{_ELSEWHERE}\n",
        METRICS,
        _section("metrics.&lt;name&gt;.&lt;setting&gt;", Varying, _VARYING),
        *map(_metric, registry.built_in().values()),
        _section("figures.&lt;name&gt;", Figure, _figures_text()),
        _section("figures.&lt;name&gt;.thresholds", Thresholds, ""),
    ]
    return "\n".join(sections)


def _section(title: str, model: type[BaseModel], text: str) -> str:
    body = f"{text}\n\n" if text else ""
    return f"## {title}\n\n{body}{_fields(model)}"


def _fields(model: type[BaseModel]) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_default(field)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value: Any = field.default
    if isinstance(value, BaseModel):
        return "see below"
    return "none" if value in (None, "") else f"`{json.dumps(value)}`"


def _data_text() -> str:
    rows = [row for row in data_sources().values() if row.trainable]
    lines = ["Sources (`resources/datasets.tsv`):", ""]
    lines += ["| source | images | shape | download |", "|---|---|---|---|"]
    for row in rows:
        shape = f"{row.channels} x {row.image_size} x {row.image_size}"
        size = sum(file.size for file in files_of(row))
        megabytes = f"{size / 1e6:.0f} MB" if size else "none"
        lines.append(f"| `{row.name}` | {row.train:,} + {row.test:,} | {shape} | {megabytes} |")
    pairs = [row for row in data_sources().values() if row.parallel]
    lines += [
        f"| `{r.name}` | {r.train:,} + {r.test:,} | sentence pairs | {r.file} |" for r in pairs
    ]
    return "\n".join([*lines, "", _OWN_DATA])


def _model_text() -> str:
    lines = ["| builder | arguments and defaults | depths | images |", "|---|---|---|---|"]
    for name, network in NETWORKS.items():
        given = ", ".join(
            f"`{key}: {json.dumps(value)}`" for key, value in network.arguments.items()
        )
        depth = network.depths.rule if "depth" in network.arguments else ""
        colours = {0: "", 1: ", grey"}[network.channels]
        pixels = f"{network.smallest} pixels or larger" if network.smallest > 1 else "any size"
        pixels = "none: sentence pairs" if network.inputs == ("named",) else pixels
        lines.append(f"| `{name}` | {given} | {depth} | {pixels}{colours} |")
    own = (
        "Your own: `builder: package.module:object`, called with `num_classes`, `in_channels` and"
        " `image_size` (each if it takes it) and with the other keys of the part. The module is"
        " looked for on PYTHONPATH, then in the folder in which you start Snakemake."
        " It gets normalised images (N, C, H, W), float32, and returns logits (N, num_classes)."
        " A builder with `**kwargs` takes all three; one that is not yours, such as a network of"
        " torchvision, needs a function of your own around it."
    )
    return "\n".join([*lines, "", _PAPER_NAMES, "", own])


def _axes_text() -> str:
    lines = ["| axis | kind | sets |", "|---|---|---|"]
    for kind, axes in (("load", LOAD_AXES), ("temperature", TEMPERATURE_AXES)):
        lines += [f"| `{axis}` | {kind} | `{'.'.join(target)}` |" for axis, target in axes.items()]
    own = (
        "`model.<argument>` makes an axis of any argument that is a number. Axes have numbers only."
    )
    shared = (
        "Experiments share cells: a cell that two of them name is trained and measured once, with"
        " the union of their seeds. So is one that two recipes train alike: a rate may be given, or"
        " be what `rate_per_batch` makes of another."
    )
    return "\n".join([*lines, "", own, "", shared])


def _metric(metric: type[Metric]) -> str:
    text = f"{inspect.getdoc(metric)}\n\n{_outputs(metric)}"
    return f"### {metric.kind}\n\n{text}\n{_fields(metric)}"


def _outputs(metric: type[Metric]) -> str:
    lines = ["| writes | one per | unit | meaning |", "|---|---|---|---|"]
    for one in metric.outputs:
        unit = "none" if one.unit in ("", "1") else one.unit
        lines.append(f"| `{one.name}` | {metric.per_of(one)} | {unit} | {one.doc} |")
    return "\n".join(lines) + "\n"


def _figures_text() -> str:
    lines = ["| figure | needs the metrics |", "|---|---|"]
    for name, drawing in FIGURES.items():
        kinds = dict.fromkeys([*drawing.scalars, *drawing.series])
        needs = ", ".join(f"`{kind}`" for kind in kinds)
        if drawing.reference:
            needs = "none: published results come with the project"
        elif drawing.variants:
            needs = "several of one kind"
        elif drawing.against:
            needs += ", of two experiments"
        lines.append(f"| `{name}` | {needs} |")
    return "\n".join([*lines, "", _OWN_FIGURES])


def schema_text() -> str:
    """Return workflow/schemas/config.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def main() -> None:
    """Write both files, and say which of them changed."""
    SCHEMA.parent.mkdir(exist_ok=True)
    for file, text in ((README, markdown()), (SCHEMA, schema_text())):
        same = file.is_file() and file.read_text(encoding="utf-8") == text
        file.write_text(text, encoding="utf-8")
        print(f"{file.relative_to(paths.PROJECT)}: {'as before' if same else 'written'}")


if __name__ == "__main__":
    main()
