rule metric:
    """A metric of one's own of one cell. The rules below are this one, for what is built in."""
    input:
        unpack(metric_inputs),
    output:
        paths.metric("{cell}", "{metric}"),
    log:
        paths.log("{metric}", "{cell}"),
    wildcard_constraints:
        metric=metrics_of("metric"),
    conda:
        "../envs/torch.yaml"
    threads: metric_threads
    resources:
        mem_mb=metric_mb,
        runtime=metric_minutes,
        gpu=metric_gpu,
        whole_gpu=whole_gpu,
    params:
        kind=kind_of,
        settings=settings_of,
        spec=spec_of,
        data=data_of,
        seeds=metric_seeds,
        code=metric_code,
    script:
        "../workflow/metric.py"


use rule metric as performance with:
    wildcard_constraints:
        metric=metrics_of("performance"),


use rule metric as hessian with:
    wildcard_constraints:
        metric=metrics_of("hessian"),


use rule metric as hessian_path with:
    wildcard_constraints:
        metric=metrics_of("hessian_path"),


use rule metric as connectivity with:
    wildcard_constraints:
        metric=metrics_of("connectivity"),


use rule metric as cka with:
    wildcard_constraints:
        metric=metrics_of("cka"),


use rule metric as distance with:
    wildcard_constraints:
        metric=metrics_of("distance"),
    conda:
        "../envs/analysis.yaml"


use rule metric as alignment with:
    wildcard_constraints:
        metric=metrics_of("alignment"),


use rule metric as simplexes with:
    wildcard_constraints:
        metric=metrics_of("simplexes"),


use rule metric as diffusion_metric with:
    wildcard_constraints:
        metric=metrics_of("diffusion_metric"),
    conda:
        "../envs/analysis.yaml"


use rule metric as landscape with:
    wildcard_constraints:
        metric=metrics_of("landscape"),


describe_rules()
