rule train_replicas:
    """Train a block of replicas of one cell."""
    input:
        dataset=dataset_of_block,
        start=start_of_block,
    output:
        weights=paths.weights("{cell}", "{block}"),
        history=paths.history("{cell}", "{block}"),
    log:
        paths.log("train", "{cell}.{block}"),
    wildcard_constraints:
        cell=TRAINED_ID,
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


rule adopt:
    """Check a replica that was trained elsewhere, and keep it as those that are trained here."""
    input:
        unpack(sources_of_block),
    output:
        weights=paths.weights("{cell}", "{block}"),
        history=paths.history("{cell}", "{block}"),
    log:
        paths.log("adopt", "{cell}.{block}"),
    wildcard_constraints:
        cell=ADOPTED_ID,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=adoption_mb,
    params:
        spec=spec_of,
        data=data_of,
        sha256=sha256_of,
        code=adoption_code,
    script:
        "../workflow/adopt.py"
