checkpoint refine:
    """A round of a refinement: which cells are measured next."""
    input:
        all_records_known,
    output:
        paths.refined("{experiment}", "{number}"),
    log:
        paths.log("refine", "{experiment}.{number}"),
    wildcard_constraints:
        experiment="|".join(PLAN.refined) or "(?!)",
        number="[1-9][0-9]*",
    conda:
        "../envs/analysis.yaml"
    params:
        asked=asked_of_refinement,
        code=code_of(entries.REFINE),
    script:
        "../workflow/refine.py"


rule infer:
    """The phases of the cells that a refinement leaves out, with their probabilities."""
    input:
        all_records_known,
    output:
        paths.inferred("{experiment}"),
    log:
        paths.log("refine", "{experiment}.inferred"),
    wildcard_constraints:
        experiment="|".join(PLAN.refined) or "(?!)",
    conda:
        "../envs/analysis.yaml"
    params:
        asked=asked_of_refinement,
        code=code_of(entries.INFER),
    script:
        "../workflow/infer.py"
