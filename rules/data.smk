# On the machine where Snakemake runs: a cluster's nodes often have no way out, and `doctor` looks here.
localrules:
    download,


rule download:
    """Download one archive of resources/datasets.tsv and verify it."""
    output:
        paths.download("{file}"),
    log:
        paths.log("download", "{file}"),
    conda:
        "../envs/data.yaml"
    params:
        name=lambda w: archive_name(w.file),
        row=row_of_file,
    script:
        "../workflow/download.py"


rule dataset:
    """Convert a data set to one HDF5 file."""
    input:
        archive_of,
    output:
        paths.dataset("{name}"),
    log:
        paths.log("dataset", "{name}"),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
    params:
        row=row_of,
        own=own_of,
        code=code_of(entries.DATASET),
    script:
        "../workflow/dataset.py"
