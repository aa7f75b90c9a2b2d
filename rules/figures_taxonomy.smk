rule taxonomy_phase_diagram:
    """Seven metrics and their uncertainty over load and temperature, a panel each."""
    input:
        scalars=figure_tables("taxonomy_phase_diagram", "scalars"),
    output:
        png=report(
            paths.figure("taxonomy_phase_diagram", "png"),
            caption="../workflow/report/taxonomy_phase_diagram.rst",
            category="taxonomy",
            subcategory="our atlas",
        ),
        pdf=paths.figure("taxonomy_phase_diagram", "pdf"),
        csv=paths.figure("taxonomy_phase_diagram", "csv"),
    log:
        paths.log("figure", "taxonomy_phase_diagram"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_phase_diagram"),
        load=figure_axis("taxonomy_phase_diagram", "load"),
        temperature=figure_axis("taxonomy_phase_diagram", "temperature"),
        caption=caption_of("taxonomy_phase_diagram"),
        code=figure_code("taxonomy_phase_diagram"),
    script:
        "../workflow/figure.py"


rule taxonomy_phases:
    """The phase of every cell: I, II, III, IV-A or IV-B, with the boundaries."""
    input:
        scalars=figure_tables("taxonomy_phases", "scalars"),
    output:
        png=report(
            paths.figure("taxonomy_phases", "png"),
            caption="../workflow/report/taxonomy_phases.rst",
            category="taxonomy",
            subcategory="our atlas",
        ),
        pdf=paths.figure("taxonomy_phases", "pdf"),
        csv=paths.figure("taxonomy_phases", "csv"),
    log:
        paths.log("figure", "taxonomy_phases"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_phases"),
        load=figure_axis("taxonomy_phases", "load"),
        temperature=figure_axis("taxonomy_phases", "temperature"),
        caption=caption_of("taxonomy_phases"),
        code=figure_code("taxonomy_phases"),
    script:
        "../workflow/figure.py"


rule taxonomy_curves:
    """Training error along the curves and the straight lines between replicas."""
    input:
        scalars=figure_tables("taxonomy_curves", "scalars"),
        series=figure_tables("taxonomy_curves", "series"),
    output:
        png=report(
            paths.figure("taxonomy_curves", "png"),
            caption="../workflow/report/taxonomy_curves.rst",
            category="taxonomy",
            subcategory="our atlas",
        ),
        pdf=paths.figure("taxonomy_curves", "pdf"),
        csv=paths.figure("taxonomy_curves", "csv"),
    log:
        paths.log("figure", "taxonomy_curves"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_curves"),
        load=figure_axis("taxonomy_curves", "load"),
        temperature=figure_axis("taxonomy_curves", "temperature"),
        caption=caption_of("taxonomy_curves"),
        code=figure_code("taxonomy_curves"),
    script:
        "../workflow/figure.py"


rule taxonomy_spectra:
    """Spectral densities of the Hessian over the grid."""
    input:
        scalars=figure_tables("taxonomy_spectra", "scalars"),
        series=figure_tables("taxonomy_spectra", "series"),
    output:
        png=report(
            paths.figure("taxonomy_spectra", "png"),
            caption="../workflow/report/taxonomy_spectra.rst",
            category="taxonomy",
            subcategory="our atlas",
        ),
        pdf=paths.figure("taxonomy_spectra", "pdf"),
        csv=paths.figure("taxonomy_spectra", "csv"),
    log:
        paths.log("figure", "taxonomy_spectra"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_spectra"),
        load=figure_axis("taxonomy_spectra", "load"),
        temperature=figure_axis("taxonomy_spectra", "temperature"),
        caption=caption_of("taxonomy_spectra"),
        code=figure_code("taxonomy_spectra"),
    script:
        "../workflow/figure.py"


rule taxonomy_reference_phase_diagram:
    """The phase diagrams from the results that Yang et al. (2021) published."""
    input:
        scalars=figure_tables("taxonomy_reference_phase_diagram", "scalars"),
    output:
        png=report(
            paths.figure("taxonomy_reference_phase_diagram", "png"),
            caption="../workflow/report/taxonomy_reference_phase_diagram.rst",
            category="taxonomy",
            subcategory="authors' results",
        ),
        pdf=paths.figure("taxonomy_reference_phase_diagram", "pdf"),
        csv=paths.figure("taxonomy_reference_phase_diagram", "csv"),
    log:
        paths.log("figure", "taxonomy_reference_phase_diagram"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_reference_phase_diagram"),
        load=figure_axis("taxonomy_reference_phase_diagram", "load"),
        temperature=figure_axis("taxonomy_reference_phase_diagram", "temperature"),
        caption=caption_of("taxonomy_reference_phase_diagram"),
        code=figure_code("taxonomy_reference_phase_diagram"),
    script:
        "../workflow/figure.py"


rule taxonomy_reference_phases:
    """The phases of the results that Yang et al. (2021) published."""
    input:
        scalars=figure_tables("taxonomy_reference_phases", "scalars"),
    output:
        png=report(
            paths.figure("taxonomy_reference_phases", "png"),
            caption="../workflow/report/taxonomy_reference_phases.rst",
            category="taxonomy",
            subcategory="authors' results",
        ),
        pdf=paths.figure("taxonomy_reference_phases", "pdf"),
        csv=paths.figure("taxonomy_reference_phases", "csv"),
    log:
        paths.log("figure", "taxonomy_reference_phases"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("taxonomy_reference_phases"),
        load=figure_axis("taxonomy_reference_phases", "load"),
        temperature=figure_axis("taxonomy_reference_phases", "temperature"),
        caption=caption_of("taxonomy_reference_phases"),
        code=figure_code("taxonomy_reference_phases"),
    script:
        "../workflow/figure.py"


rule figure:
    """Draw a figure that the config adds under a name of its own."""
    input:
        scalars=figure_tables("", "scalars"),
        series=figure_tables("", "series"),
    output:
        png=paths.figure("{figure}", "png"),
        pdf=paths.figure("{figure}", "pdf"),
        csv=paths.figure("{figure}", "csv"),
    log:
        paths.log("figure", "{figure}"),
    wildcard_constraints:
        figure=added_figures(),
    conda:
        "../envs/analysis.yaml"
    params:
        style=lambda w: figure_style(w.figure),
        load=lambda w: figure_axis(w.figure, "load"),
        temperature=lambda w: figure_axis(w.figure, "temperature"),
        caption=lambda w: caption_of(w.figure),
        code=lambda w: figure_code(w.figure),
    script:
        "../workflow/figure.py"
