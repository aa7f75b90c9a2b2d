"""Pack all results of the config into one file, to hand on."""

import json

import yaml

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import bundle, reruns

    config = json.loads(s.params.config)
    files = bundle.files_of(s.params.cells, weights=s.params.weights)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    bundle.pack(s.output[0], files, config["name"], text, reruns.read_accepted())
