rule data:
    """All data sets of the config, downloaded, verified and converted."""
    localrule: True
    input:
        all_datasets(),


rule training:
    """All replicas of all cells, trained."""
    localrule: True
    input:
        all_weights(),


rule metrics:
    """All metrics of all cells, and their tables."""
    localrule: True
    input:
        [paths.table(experiment) for experiment in CONFIG.experiments],


rule figures:
    """All figures of the config."""
    localrule: True
    input:
        figure_files(FIGURE_NAMES),


rule claims:
    """The papers' claims with their verdicts: results/tables/claims.csv."""
    localrule: True
    input:
        paths.claims(),


rule taxonomy:
    """Everything of the taxonomy paper: its figures, ours beside the published ones, and claims."""
    localrule: True
    input:
        figure_files([name for name in FIGURE_NAMES if shown(name)[0].draws.startswith("taxonomy")]),
        paths.claims(),


rule plan:
    """Print cells, replicas, jobs, disk and estimated time; nothing is run."""
    localrule: True
    script:
        "../workflow/plan.py"


rule status:
    """Print what is done, missing, failed and diverged, per experiment; nothing is run."""
    localrule: True
    script:
        "../workflow/status.py"
