localrules:
    all,
    data,
    train,
    metrics,
    figures,
    claims,
    taxonomy,
    simplex,
    diffusion,
    pilot,
    plan,
    status,
    doctor,
    taxonomy_import,


rule data:
    """All data sets of the config, downloaded, verified and converted."""
    input:
        all_datasets(),


rule train:
    """All replicas of all cells, trained; those that were trained elsewhere, read and checked."""
    input:
        all_weights(),


rule metrics:
    """All metrics of all cells, and their tables."""
    input:
        [paths.table(experiment) for experiment in CONFIG.experiments],


rule figures:
    """All figures of the config."""
    input:
        figure_files(FIGURE_NAMES),


rule claims:
    """The papers' claims with their verdicts: claims.csv among the config's tables."""
    input:
        paths.claims(),


rule taxonomy:
    """Everything of the taxonomy paper: its figures, ours beside the published ones, and claims."""
    input:
        everything_of(CONFIG, "taxonomy"),


rule simplex:
    """Everything of the simplex paper: complexes, volumes, fast ensembles, studies, and claims."""
    input:
        everything_of(CONFIG, "simplex"),


rule diffusion:
    """Everything of the diffusion paper: recorded paths, toy walkers, figures, and claims."""
    input:
        everything_of(CONFIG, "diffusion"),


rule plan:
    """Print cells, replicas, jobs, disk and estimated time; nothing is run."""
    log:
        paths.own_log("plan"),
    conda:
        "../envs/analysis.yaml"
    params:
        stale=lambda w: stale(),
        why=lambda w: [*CONFIG.missing, *[stale(), RERUNS.summary()][1]],
        files=lambda w: given_files(),
        here=lambda w: device_here(),
    script:
        "../workflow/plan.py"


rule pilot:
    """What the smallest and the largest cell take, against what they ask for: --config pilot=true."""
    input:
        all_of_pilot,
    log:
        paths.own_log("pilot"),
    retries: 0
    conda:
        "../envs/analysis.yaml"
    params:
        rules=lambda w: {name: rule_of_metric(name) for name in CONFIG.metrics_measured},
        given=lambda w: given_resources(),
    script:
        "../workflow/pilot.py"


rule calibrate:
    """Measure what steps cost on the device of the jobs, in a minute or two; then see `plan`."""
    output:
        paths.calibration(),
    log:
        paths.log("calibrate", "calibrate"),
    conda:
        "../envs/torch.yaml"
    threads: most_threads()
    resources:
        mem_mb=lambda wildcards, attempt: most_mb(attempt),
        runtime=lambda wildcards, attempt: 15 * attempt,
        gpu=needs.gpu(),
        whole_gpu=1,
    params:
        cases=lambda w: calibrated(),
        device=lambda w: os.environ.get("LOSSATLAS_DEVICE", ""),
        torch=lambda w: torch_here(),
        warm=lambda w: workflow.local_exec and sys.platform == "linux",
    script:
        "../workflow/calibrate.py"


rule status:
    """Print what is done, missing, failed and diverged, per experiment; nothing is run."""
    log:
        paths.own_log("status"),
    conda:
        "../envs/analysis.yaml"
    params:
        stale=lambda w: stale(),
        why=lambda w: [*CONFIG.missing, *[stale(), RERUNS.summary()][1]],
    script:
        "../workflow/status.py"


rule doctor:
    """Check this machine before anything is spent: device, disk, data, scheduler, versions."""
    log:
        paths.own_log("doctor"),
    retries: 0
    conda:
        "../envs/torch.yaml"
    params:
        executor=lambda w: executor_name(),
        status_command=lambda w: getattr(workflow.executor_settings, "status_command", None),
        mirror_dir=CONFIG.mirror_dir or os.getenv("LOSSATLAS_MIRROR", ""),
        places=lambda w: gpu_places(),
    script:
        "../workflow/doctor.py"


rule taxonomy_import:
    """Compare resources/taxonomy_published.csv with the authors' archive, which is downloaded."""
    input:
        archive=archive_of_results(),
        shipped=published_numbers,
    log:
        paths.log("reference", "taxonomy_import"),
    retries: 0
    conda:
        "../envs/analysis.yaml"
    script:
        "../workflow/taxonomy_import.py"


rule report:
    """One HTML page to explore: maps, cells, figures, claims and runs: report.html of the config."""
    input:
        figures=figure_files(FIGURE_NAMES),
        claims=CLAIMS,
        tables=tables_of_page(),
    output:
        paths.page(),
    log:
        paths.log("report", "report"),
    conda:
        "../envs/analysis.yaml"
    params:
        captions={name: shown(name).caption for name in FIGURE_NAMES},
        config=CONFIG.name,
        experiments=compact(on_page()),
        digest=lambda w: atlas.digest(CONFIG),
        units=compact(plainly(atlas.units, CONFIG)),
        command=lambda w: command_of_files(),
        look=lambda w: assets.digest(),
        adopted=[name for name, one in CONFIG.experiments.items() if one.checkpoints],
        missing=CONFIG.missing,
        accepted=lambda w: RERUNS.reasons(),
        code=code_of(entries.REPORT),
    script:
        "../workflow/report.py"


rule export:
    """All results as one file to hand on: export.zip; with the other target, weights as well."""
    input:
        figures=figure_files(FIGURE_NAMES),
        claims=CLAIMS,
        tables=rules.metrics.input,
    output:
        paths.archive(),
    log:
        paths.log("export", "export"),
    conda:
        "../envs/analysis.yaml"
    params:
        weights=False,
        cells=lambda w: list(PLAN.cells),
        config=lambda w: compact(config),
        code=code_of(entries.EXPORT),
    script:
        "../workflow/export.py"


use rule export as export_with_weights with:
    input:
        figures=figure_files(FIGURE_NAMES),
        claims=CLAIMS,
        tables=rules.metrics.input,
        weights=all_weights(),
    output:
        paths.archive(weights=True),
    log:
        paths.log("export", "export_with_weights"),
    params:
        weights=True,
        cells=lambda w: list(PLAN.cells),
        config=lambda w: compact(config),
        code=code_of(entries.EXPORT),


# Not where another workflow has this one as a module: its rules may make files of any name.
if workflow.modifier.namespace is None:

    rule misspelt:
        """Says of a target that there is not which one is most like it."""
        input:
            no_such_target,
        output:
            "{target}",
        log:
            paths.log("misspelt", "{target}"),
        wildcard_constraints:
            target="[A-Za-z][A-Za-z0-9_-]*",
        conda:
            "../envs/analysis.yaml"
