rule download:
    """Download one archive of resources/datasets.tsv and verify it."""
    output:
        paths.download("{file}"),
    params:
        name=lambda w: archive_name(w.file),
        mirror_dir=lambda w: mirror_dir(),
    log:
        paths.log("download", "{file}"),
    script:
        "../workflow/download.py"


rule dataset:
    """Convert a data set to one HDF5 file."""
    input:
        archive_of,
    output:
        paths.dataset("{name}"),
    params:
        code=code_of("lossatlas.data.convert:convert"),
    log:
        paths.log("dataset", "{name}"),
    resources:
        mem_mb=2000,
    script:
        "../workflow/dataset.py"
