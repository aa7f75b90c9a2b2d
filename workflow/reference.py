"""Convert the results that Yang et al. (2021) published to tables."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.reference import taxonomy_published, taxonomy_tables
    from lossatlas.tables import collect

    tables = taxonomy_tables.tables(taxonomy_published.read(Path(s.input[0])))
    for index, kind in enumerate(s.params.kinds):
        collect.write(s.output.scalars[index], tables[kind][0])
        collect.write(s.output.series[index], tables[kind][1])
