rule performance:
    """Loss and accuracy of the replicas of a cell and of their ensemble."""
    input:
        weights=weights_of,
        histories=histories_of,
        dataset=dataset_of_metric,
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("performance"),
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        kind="performance",
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=seeds_of,
        code=metric_code,
    script:
        "../workflow/metric.py"
