"""Download one archive of the datasets table, and verify it."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import missing
    from lossatlas.data.download import MissingError, fetch
    from lossatlas.spec.catalogue import data_sources

    source = data_sources()[s.params.name]
    missing.forget(source.file)
    try:
        fetch(source, Path(s.output[0]), s.config.get("mirror_dir", ""))
    except MissingError:
        missing.note(source.file)
        raise
