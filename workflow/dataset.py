"""Convert a data set to one HDF5 file."""

import json
from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import store
    from lossatlas.data import convert, own, texts
    from lossatlas.spec.catalogue import DataSource

    files = [Path(file) for file in s.input]
    if s.params.own:
        source = DataSource(**json.loads(s.params.own))
        if source.text:
            record = texts.convert(source, files)
        else:
            record = own.convert(source, files[0] if files else None)
    else:
        record = convert.convert(s.wildcards.name, *files)
    store.write(s.output[0], record)
