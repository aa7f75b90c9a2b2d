rule hessian:
    """Hessian eigenvalues, trace and spectral density of the replicas of a cell."""
    input:
        weights=weights_of,
        histories=histories_of,
        dataset=dataset_of_metric,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("hessian"),
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        kind="hessian",
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"


rule hessian_path:
    """Spectrum of the Hessian at the weights that were kept along training."""
    input:
        weights=weights_of,
        histories=histories_of,
        dataset=dataset_of_metric,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("hessian_path"),
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        kind="hessian_path",
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"
