rule simplex_planes:
    """The loss on planes through modes and connectors, true to length."""
    input:
        series=figure_tables("simplex_planes", "series"),
    output:
        png=report(
            paths.figure("simplex_planes", "png"),
            caption="../workflow/report/simplex_planes.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_planes", "pdf"),
        csv=paths.figure("simplex_planes", "csv"),
    log:
        paths.log("figure", "simplex_planes"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_planes"),
        load=figure_axis("simplex_planes", "load"),
        temperature=figure_axis("simplex_planes", "temperature"),
        caption=caption_of("simplex_planes"),
        code=figure_code("simplex_planes"),
    script:
        "../workflow/figure.py"


rule simplex_complex_3d:
    """Vertices and random points of a complex in three principal directions."""
    input:
        series=figure_tables("simplex_complex_3d", "series"),
    output:
        png=report(
            paths.figure("simplex_complex_3d", "png"),
            caption="../workflow/report/simplex_complex_3d.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_complex_3d", "pdf"),
        csv=paths.figure("simplex_complex_3d", "csv"),
    log:
        paths.log("figure", "simplex_complex_3d"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_complex_3d"),
        load=figure_axis("simplex_complex_3d", "load"),
        temperature=figure_axis("simplex_complex_3d", "temperature"),
        caption=caption_of("simplex_complex_3d"),
        code=figure_code("simplex_complex_3d"),
    script:
        "../workflow/figure.py"


rule simplex_volume:
    """Volume, height and loss against the number of connectors, in three ways."""
    input:
        series=figure_tables("simplex_volume", "series"),
    output:
        png=report(
            paths.figure("simplex_volume", "png"),
            caption="../workflow/report/simplex_volume.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_volume", "pdf"),
        csv=paths.figure("simplex_volume", "csv"),
    log:
        paths.log("figure", "simplex_volume"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_volume"),
        load=figure_axis("simplex_volume", "load"),
        temperature=figure_axis("simplex_volume", "temperature"),
        caption=caption_of("simplex_volume"),
        code=figure_code("simplex_volume"),
    script:
        "../workflow/figure.py"


rule simplex_ensembles:
    """Error and likelihood of ensembles, beside the published curves."""
    input:
        series=figure_tables("simplex_ensembles", "series"),
    output:
        png=report(
            paths.figure("simplex_ensembles", "png"),
            caption="../workflow/report/simplex_ensembles.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_ensembles", "pdf"),
        csv=paths.figure("simplex_ensembles", "csv"),
    log:
        paths.log("figure", "simplex_ensembles"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_ensembles"),
        load=figure_axis("simplex_ensembles", "load"),
        temperature=figure_axis("simplex_ensembles", "temperature"),
        caption=caption_of("simplex_ensembles"),
        code=figure_code("simplex_ensembles"),
    script:
        "../workflow/figure.py"


rule simplex_calibration:
    """Reliability and calibration error, before and after temperature scaling."""
    input:
        series=figure_tables("simplex_calibration", "series"),
    output:
        png=report(
            paths.figure("simplex_calibration", "png"),
            caption="../workflow/report/simplex_calibration.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_calibration", "pdf"),
        csv=paths.figure("simplex_calibration", "csv"),
    log:
        paths.log("figure", "simplex_calibration"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_calibration"),
        load=figure_axis("simplex_calibration", "load"),
        temperature=figure_axis("simplex_calibration", "temperature"),
        caption=caption_of("simplex_calibration"),
        code=figure_code("simplex_calibration"),
    script:
        "../workflow/figure.py"


rule simplex_corruption:
    """Ensembles on images with Gaussian noise."""
    input:
        series=figure_tables("simplex_corruption", "series"),
    output:
        png=report(
            paths.figure("simplex_corruption", "png"),
            caption="../workflow/report/simplex_corruption.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_corruption", "pdf"),
        csv=paths.figure("simplex_corruption", "csv"),
    log:
        paths.log("figure", "simplex_corruption"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_corruption"),
        load=figure_axis("simplex_corruption", "load"),
        temperature=figure_axis("simplex_corruption", "temperature"),
        caption=caption_of("simplex_corruption"),
        code=figure_code("simplex_corruption"),
    script:
        "../workflow/figure.py"


rule simplex_two_spirals:
    """A simplex on the two spirals: faces, decision fields, likelihood."""
    input:
        series=figure_tables("simplex_two_spirals", "series"),
    output:
        png=report(
            paths.figure("simplex_two_spirals", "png"),
            caption="../workflow/report/simplex_two_spirals.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_two_spirals", "pdf"),
        csv=paths.figure("simplex_two_spirals", "csv"),
    log:
        paths.log("figure", "simplex_two_spirals"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_two_spirals"),
        load=figure_axis("simplex_two_spirals", "load"),
        temperature=figure_axis("simplex_two_spirals", "temperature"),
        caption=caption_of("simplex_two_spirals"),
        code=figure_code("simplex_two_spirals"),
    script:
        "../workflow/figure.py"


rule simplex_sampling_bias:
    """Whether barycentric draws are uniform in long triangles too."""
    input:
        series=figure_tables("simplex_sampling_bias", "series"),
    output:
        png=report(
            paths.figure("simplex_sampling_bias", "png"),
            caption="../workflow/report/simplex_sampling_bias.rst",
            category="simplexes",
        ),
        pdf=paths.figure("simplex_sampling_bias", "pdf"),
        csv=paths.figure("simplex_sampling_bias", "csv"),
    log:
        paths.log("figure", "simplex_sampling_bias"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("simplex_sampling_bias"),
        load=figure_axis("simplex_sampling_bias", "load"),
        temperature=figure_axis("simplex_sampling_bias", "temperature"),
        caption=caption_of("simplex_sampling_bias"),
        code=figure_code("simplex_sampling_bias"),
    script:
        "../workflow/figure.py"
