"""Convert a data set to one HDF5 file."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import store
    from lossatlas.data.convert import convert

    store.write(s.output[0], convert(s.wildcards.name, *map(Path, s.input)))
