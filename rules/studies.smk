rule study:
    """An experiment that has no cells: spirals, triangles, toy walkers, choices of cells."""
    input:
        lambda wildcards: published_numbers(wildcards) if wildcards.study == "refinement" else [],
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
