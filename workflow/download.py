"""Download one archive of the datasets table, and verify it."""

from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import missing
    from lossatlas.data.download import MissingError, fetch
    from lossatlas.spec.catalogue import REHEARSED, corrupted_source, data_sources

    made = s.params.name.endswith(REHEARSED)
    source = corrupted_source(s.params.name) if made else data_sources()[s.params.name]
    missing.forget(source.file)
    try:
        if made:
            from lossatlas.data import rehearsal

            rehearsal.write_corruptions(source, Path(s.output[0]))
        else:
            fetch(source, Path(s.output[0]), s.config.get("mirror_dir", ""))
    except MissingError:
        missing.note(source.file)
        raise
