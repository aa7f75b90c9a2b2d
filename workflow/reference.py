"""Convert the results that Yang et al. (2021) published to our record and tables."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import store
    from lossatlas.reference import taxonomy_archive
    from lossatlas.tables import collect

    record = taxonomy_archive.convert(Path(s.input[0]))
    store.write(s.output.record, record)
    tables = taxonomy_archive.tables(record)
    for kind, scalars, series in zip(
        s.params.kinds, s.output.scalars, s.output.series, strict=True
    ):
        collect.write(tables[kind][0], scalars)
        collect.write(tables[kind][1], series)
