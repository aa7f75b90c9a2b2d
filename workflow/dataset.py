"""Convert a data set to one HDF5 file."""

import json
from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import store
    from lossatlas.data import convert, own, rehearsal, texts
    from lossatlas.spec.catalogue import DataSource, data_source

    files = [Path(file) for file in s.input]
    if s.params.own:
        source = DataSource(**json.loads(s.params.own))
        if source.text:
            record = rehearsal.made(source) if source.stands_for else texts.convert(source, files)
        else:
            make = rehearsal.first_of if source.stands_for else own.convert
            record = make(source, files[0] if files else None)
    elif s.config.get("rehearse"):
        record = rehearsal.made(data_source(s.wildcards.name))
    else:
        record = convert.convert(s.wildcards.name, *files)
    store.write(s.output[0], record)
