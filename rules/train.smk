rule train_replicas:
    """Train a block of replicas of one cell."""
    input:
        dataset=dataset_of_block,
    output:
        weights=paths.weights("{cell}", "{block}"),
        history=paths.history("{cell}", "{block}"),
    log:
        paths.log("train", "{cell}.{block}"),
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        mem_mb=training_mb,
        runtime=training_minutes,
        gpu=needs.gpu(),
        whole_gpu=whole_gpu,
    params:
        spec=spec_of,
        data=data_of,
        code=training_code,
    script:
        "../workflow/train.py"
