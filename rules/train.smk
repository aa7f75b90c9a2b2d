rule train:
    """Train a block of replicas of one cell."""
    input:
        dataset=dataset_of,
    output:
        weights=paths.weights("{cell}", "{block}"),
        history=paths.history("{cell}", "{block}"),
    params:
        spec=spec_of,
        code=training_code,
    log:
        paths.log("train", "{cell}.{block}"),
    benchmark:
        paths.benchmark("train", "{cell}.{block}")
    resources:
        mem_mb=2000,
        gpu=1,
    script:
        "../workflow/train.py"
