rule collect:
    """Gather one metric of an experiment into two tidy tables."""
    input:
        records_of,
    output:
        scalars=paths.metric_table("{experiment}", "{metric}"),
        series=paths.series_table("{experiment}", "{metric}"),
    log:
        paths.log("collect", "{experiment}.{metric}"),
    conda:
        "../envs/analysis.yaml"
    params:
        axes=axes_of,
        code=code_of(entries.COLLECT),
    script:
        "../workflow/collect.py"


rule table:
    """Put all metrics of an experiment into one table."""
    input:
        metric_tables,
    output:
        paths.table("{experiment}"),
    log:
        paths.log("table", "{experiment}"),
    conda:
        "../envs/analysis.yaml"
    params:
        metrics=metrics_measured,
        code=code_of(entries.TABLE),
    script:
        "../workflow/table.py"


rule reference:
    """Make tables of the results that Yang et al. (2021) published, from resources/."""
    input:
        published_numbers,
    output:
        scalars=[paths.metric_table(REFERENCE, kind) for kind in REFERENCE_KINDS],
        series=[paths.series_table(REFERENCE, kind) for kind in REFERENCE_KINDS],
    log:
        paths.log("reference", "taxonomy_published"),
    conda:
        "../envs/analysis.yaml"
    params:
        kinds=REFERENCE_KINDS,
        code=code_of(entries.REFERENCE),
    script:
        "../workflow/reference.py"


rule verdicts:
    """Check a paper's claims on our tables and on the published ones."""
    input:
        claims_read,
    output:
        paths.claims_of("{paper}"),
    log:
        paths.log("claims", "{paper}"),
    conda:
        "../envs/analysis.yaml"
    params:
        experiments=told_of,
        about=about_claims,
        code=lambda wildcards: code_of(entries.claims(wildcards.paper)),
    script:
        "../workflow/claims.py"


rule all_claims:
    """Put the claims of all papers into one table."""
    input:
        [paths.claims_of(paper) for paper in PAPERS],
    output:
        report(paths.claims(), caption="../workflow/report/claims.rst", category="claims"),
    log:
        paths.log("claims", "claims"),
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_of(entries.ALL_CLAIMS),
    script:
        "../workflow/all_claims.py"
