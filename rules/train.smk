rule train_replicas:
    """Train a block of replicas of one cell."""
    input:
        dataset=dataset_of,
    output:
        weights=paths.weights("{cell}", "{block}"),
        history=paths.history("{cell}", "{block}"),
    log:
        paths.log("train", "{cell}.{block}"),
    benchmark:
        paths.benchmark("train", "{cell}.{block}")
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
        gpu=1,
    params:
        spec=spec_of,
        code=training_code,
    script:
        "../workflow/train.py"
