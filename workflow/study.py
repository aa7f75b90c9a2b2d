"""Run a study that has no cells: its record and its tables."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import device, plugins, store
    from lossatlas.tables import collect

    device.set_threads(s.threads)
    record, name = plugins.load(s.params.target, "study")(), s.wildcards.study
    store.write(s.output.record, record)
    axes = {name: {}}
    scalars = collect.scalar_frame("studies", axes, {name: record.scalars})
    series = collect.series_frame("studies", axes, {name: [*record.series, *record.tables]})
    collect.write(s.output.scalars, scalars)
    collect.write(s.output.series, series)
