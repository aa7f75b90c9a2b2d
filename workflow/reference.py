"""Convert the results that Yang et al. (2021) published to our record and tables."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import store
    from lossatlas.reference import taxonomy_archive, taxonomy_tables
    from lossatlas.tables import collect

    record = taxonomy_archive.convert(Path(s.input[0]))
    store.write(s.output.record, record)
    tables = taxonomy_tables.tables(record)
    for index, kind in enumerate(s.params.kinds):
        collect.write(s.output.scalars[index], tables[kind][0])
        collect.write(s.output.series[index], tables[kind][1])
