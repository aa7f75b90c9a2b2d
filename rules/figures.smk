rule figure:
    """Draw one figure from tables: picture, page, and the numbers that it shows."""
    input:
        scalars=figure_tables("scalars"),
        series=figure_tables("series"),
        inferred=lambda wildcards: shown(wildcards.figure).inferred,
    output:
        png=report(
            paths.figure("{figure}", "png"),
            caption="../workflow/report/figure.rst",
            category=lambda wildcards: shown(wildcards.figure).drawing.category,
            subcategory=lambda wildcards: shown(wildcards.figure).drawing.subcategory,
        ),
        pdf=paths.figure("{figure}", "pdf"),
        csv=report(
            paths.figure("{figure}", "csv"),
            category="numbers drawn",
            subcategory=lambda wildcards: shown(wildcards.figure).drawing.category,
        ),
    log:
        paths.log("figure", "{figure}"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=lambda wildcards: compact(shown(wildcards.figure).style.model_dump()),
        load=lambda wildcards: shown(wildcards.figure).axis("load"),
        temperature=lambda wildcards: shown(wildcards.figure).axis("temperature"),
        caption=lambda wildcards: shown(wildcards.figure).caption,
        code=figure_code,
    script:
        "../workflow/figure.py"


# Each figure, built in or of the config, is a target of its own name. What `--list-target-rules`
# says of it stands in its declaration, so that a new figure is one file.
for figure in dict.fromkeys([*FIGURES, *FIGURE_NAMES]):
    if not workflow.is_rule(figure):

        rule:
            name:
                figure
            input:
                figure_files([figure]),
            localrule: True

        rule_called(figure).docstring = shown(figure).drawing.about
