rule diffusion_metric:
    """Displacement, contour, loss and gradients along the recorded path of each replica."""
    input:
        histories=histories_of,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("diffusion"),
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
    params:
        kind="diffusion",
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"


rule landscape:
    """Roughness of the loss on planes around the replicas of a cell."""
    input:
        weights=weights_of,
        histories=histories_of,
        dataset=dataset_of_metric,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("landscape"),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        kind="landscape",
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"
