"""Download one archive of the datasets table, and verify it."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.data.download import fetch
    from lossatlas.spec.catalogue import data_sources

    source = data_sources()[s.params.name]
    fetch(source, Path(s.output[0]), s.config.get("mirror_dir", ""))
