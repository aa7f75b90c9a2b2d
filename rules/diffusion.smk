rule diffusion_metric:
    """Displacement, contour, loss and gradients along the recorded path of each replica."""
    input:
        histories=histories_of,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    benchmark:
        paths.benchmark("{metric}", "{cell}")
    wildcard_constraints:
        metric=metrics_of("diffusion"),
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
    params:
        kind="diffusion",
        settings=settings_of,
        spec=spec_of,
        seeds=seeds_of,
        code=code_of(*METRIC_CODE["diffusion"]),
    script:
        "../workflow/metric.py"
