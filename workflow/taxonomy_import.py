"""Make the table of the authors' numbers again from their archive, and compare the two."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import paths
    from lossatlas.reference import taxonomy_archive, taxonomy_published

    made, archive = Path(paths.imported()), Path(s.input.archive)
    taxonomy_published.write(made, taxonomy_archive.convert(archive), archive)
    print(taxonomy_published.compare(made, Path(s.input.shipped)))
