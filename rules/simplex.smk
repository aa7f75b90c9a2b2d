rule simplexes:
    """Simplexes between the replicas of a cell, or grown from each: vertices, loss, ensembles."""
    input:
        weights=weights_of,
        histories=histories_of,
        dataset=dataset_of_metric,
        corruptions=corruptions_of,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric="|".join(map(metrics_of, SIMPLEX_KINDS)),
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        kind=kind_of,
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"


rule study:
    """An experiment on toy data that has no cells: spirals, triangles, toy walkers."""
    output:
        record=paths.study("{study}"),
        scalars=paths.metric_table(STUDIES, "{study}"),
        series=paths.series_table(STUDIES, "{study}"),
    log:
        paths.log("study", "{study}"),
    wildcard_constraints:
        study="|".join(STUDY_OF),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        target=lambda wildcards: STUDY_OF[wildcards.study],
        code=lambda wildcards: code_of(entries.study(wildcards.study)),
    script:
        "../workflow/study.py"
