"""Loss Atlas: data -> training -> metrics -> tables -> figures. See README.md."""

from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

# A config file given with --configfile stands alone; one without experiments changes config.yaml.
if "experiments" not in config:
    if not Path("config.yaml").is_file():
        raise WorkflowError(
            "no config.yaml in this folder (name a config: --configfile FILE; or start in the checkout)"
        )

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/asking.smk"
include: "rules/refining.smk"
include: "rules/archives.smk"
include: "rules/reruns.smk"
include: "rules/run.smk"


rule all:
    """The whole atlas: all figures and claims of the config, or its tables if it draws nothing."""
    default_target: True
    input:
        figure_files(FIGURE_NAMES),
        CLAIMS,
        [] if CONFIG.figures else [paths.table(experiment) for experiment in CONFIG.experiments],


DEFAULT_TARGET = workflow.default_target  # an include forgets it: for workflow/Snakefile


include: "rules/targets.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/metrics.smk"
include: "rules/refine.smk"
include: "rules/tables.smk"
include: "rules/studies.smk"
include: "rules/figures.smk"


if CONFIG.pilot:  # which ends with its table
    workflow.default_target = DEFAULT_TARGET = rule_called("pilot").name


from lossatlas import kept


onstart:
    find_scripts_of_profile()
    check_results()
    tell_why()
    fingerprint.keep_parts()
    names.remember(CONFIG.name, workflow.configfiles)


onsuccess:
    kept.forget(ended())


onerror:
    kept.forget(ended())
    tell_of_missing_data()
