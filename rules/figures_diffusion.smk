rule diffusion_fig2_msd:
    """Mean squared displacement of the weights against lag, its exponents, window by window."""
    input:
        scalars=figure_tables("diffusion_fig2_msd", "scalars"),
        series=figure_tables("diffusion_fig2_msd", "series"),
    output:
        png=report(
            paths.figure("diffusion_fig2_msd", "png"),
            caption="../workflow/report/diffusion_fig2_msd.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_fig2_msd", "pdf"),
        csv=paths.figure("diffusion_fig2_msd", "csv"),
    log:
        paths.log("figure", "diffusion_fig2_msd"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_fig2_msd"),
        load=figure_axis("diffusion_fig2_msd", "load"),
        temperature=figure_axis("diffusion_fig2_msd", "temperature"),
        caption=caption_of("diffusion_fig2_msd"),
        code=figure_code("diffusion_fig2_msd"),
    script:
        "../workflow/figure.py"


rule diffusion_fig3_trapping:
    """Loss against distance, transverse excursions, displacement against contour length."""
    input:
        scalars=figure_tables("diffusion_fig3_trapping", "scalars"),
        series=figure_tables("diffusion_fig3_trapping", "series"),
    output:
        png=report(
            paths.figure("diffusion_fig3_trapping", "png"),
            caption="../workflow/report/diffusion_fig3_trapping.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_fig3_trapping", "pdf"),
        csv=paths.figure("diffusion_fig3_trapping", "csv"),
    log:
        paths.log("figure", "diffusion_fig3_trapping"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_fig3_trapping"),
        load=figure_axis("diffusion_fig3_trapping", "load"),
        temperature=figure_axis("diffusion_fig3_trapping", "temperature"),
        caption=caption_of("diffusion_fig3_trapping"),
        code=figure_code("diffusion_fig3_trapping"),
    script:
        "../workflow/figure.py"


rule diffusion_fig4_toy:
    """Noisy walkers on fractal, shuffled, convex and flat surfaces."""
    input:
        scalars=figure_tables("diffusion_fig4_toy", "scalars"),
        series=figure_tables("diffusion_fig4_toy", "series"),
    output:
        png=report(
            paths.figure("diffusion_fig4_toy", "png"),
            caption="../workflow/report/diffusion_fig4_toy.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_fig4_toy", "pdf"),
        csv=paths.figure("diffusion_fig4_toy", "csv"),
    log:
        paths.log("figure", "diffusion_fig4_toy"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_fig4_toy"),
        load=figure_axis("diffusion_fig4_toy", "load"),
        temperature=figure_axis("diffusion_fig4_toy", "temperature"),
        caption=caption_of("diffusion_fig4_toy"),
        code=figure_code("diffusion_fig4_toy"),
    script:
        "../workflow/figure.py"


rule diffusion_fig5_gradients:
    """Densities of gradient entries, their stable index, changes of the loss."""
    input:
        scalars=figure_tables("diffusion_fig5_gradients", "scalars"),
        series=figure_tables("diffusion_fig5_gradients", "series"),
    output:
        png=report(
            paths.figure("diffusion_fig5_gradients", "png"),
            caption="../workflow/report/diffusion_fig5_gradients.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_fig5_gradients", "pdf"),
        csv=paths.figure("diffusion_fig5_gradients", "csv"),
    log:
        paths.log("figure", "diffusion_fig5_gradients"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_fig5_gradients"),
        load=figure_axis("diffusion_fig5_gradients", "load"),
        temperature=figure_axis("diffusion_fig5_gradients", "temperature"),
        caption=caption_of("diffusion_fig5_gradients"),
        code=figure_code("diffusion_fig5_gradients"),
    script:
        "../workflow/figure.py"


rule diffusion_controls:
    """What displacement means: drift, reordered steps, a convex loss, moments."""
    input:
        scalars=figure_tables("diffusion_controls", "scalars"),
        series=figure_tables("diffusion_controls", "series"),
    output:
        png=report(
            paths.figure("diffusion_controls", "png"),
            caption="../workflow/report/diffusion_controls.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_controls", "pdf"),
        csv=paths.figure("diffusion_controls", "csv"),
    log:
        paths.log("figure", "diffusion_controls"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_controls"),
        load=figure_axis("diffusion_controls", "load"),
        temperature=figure_axis("diffusion_controls", "temperature"),
        caption=caption_of("diffusion_controls"),
        code=figure_code("diffusion_controls"),
    script:
        "../workflow/figure.py"


rule diffusion_landscape_fractal:
    """Roughness of the loss around trained networks, beside generated surfaces."""
    input:
        scalars=figure_tables("diffusion_landscape_fractal", "scalars"),
        series=figure_tables("diffusion_landscape_fractal", "series"),
    output:
        png=report(
            paths.figure("diffusion_landscape_fractal", "png"),
            caption="../workflow/report/diffusion_landscape_fractal.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_landscape_fractal", "pdf"),
        csv=paths.figure("diffusion_landscape_fractal", "csv"),
    log:
        paths.log("figure", "diffusion_landscape_fractal"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_landscape_fractal"),
        load=figure_axis("diffusion_landscape_fractal", "load"),
        temperature=figure_axis("diffusion_landscape_fractal", "temperature"),
        caption=caption_of("diffusion_landscape_fractal"),
        code=figure_code("diffusion_landscape_fractal"),
    script:
        "../workflow/figure.py"


rule diffusion_s1_msd:
    """Displacement in all windows, and over the whole run."""
    input:
        scalars=figure_tables("diffusion_s1_msd", "scalars"),
        series=figure_tables("diffusion_s1_msd", "series"),
    output:
        png=report(
            paths.figure("diffusion_s1_msd", "png"),
            caption="../workflow/report/diffusion_s1_msd.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_s1_msd", "pdf"),
        csv=paths.figure("diffusion_s1_msd", "csv"),
    log:
        paths.log("figure", "diffusion_s1_msd"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_s1_msd"),
        load=figure_axis("diffusion_s1_msd", "load"),
        temperature=figure_axis("diffusion_s1_msd", "temperature"),
        caption=caption_of("diffusion_s1_msd"),
        code=figure_code("diffusion_s1_msd"),
    script:
        "../workflow/figure.py"


rule diffusion_s2_hessian:
    """Top eigenvalues and spectral density of the Hessian along training."""
    input:
        scalars=figure_tables("diffusion_s2_hessian", "scalars"),
        series=figure_tables("diffusion_s2_hessian", "series"),
    output:
        png=report(
            paths.figure("diffusion_s2_hessian", "png"),
            caption="../workflow/report/diffusion_s2_hessian.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_s2_hessian", "pdf"),
        csv=paths.figure("diffusion_s2_hessian", "csv"),
    log:
        paths.log("figure", "diffusion_s2_hessian"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_s2_hessian"),
        load=figure_axis("diffusion_s2_hessian", "load"),
        temperature=figure_axis("diffusion_s2_hessian", "temperature"),
        caption=caption_of("diffusion_s2_hessian"),
        code=figure_code("diffusion_s2_hessian"),
    script:
        "../workflow/figure.py"


rule diffusion_s3_depth_batch:
    """Exponents and crossover against depth and batch size."""
    input:
        scalars=figure_tables("diffusion_s3_depth_batch", "scalars"),
        series=figure_tables("diffusion_s3_depth_batch", "series"),
    output:
        png=report(
            paths.figure("diffusion_s3_depth_batch", "png"),
            caption="../workflow/report/diffusion_s3_depth_batch.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_s3_depth_batch", "pdf"),
        csv=paths.figure("diffusion_s3_depth_batch", "csv"),
    log:
        paths.log("figure", "diffusion_s3_depth_batch"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_s3_depth_batch"),
        load=figure_axis("diffusion_s3_depth_batch", "load"),
        temperature=figure_axis("diffusion_s3_depth_batch", "temperature"),
        caption=caption_of("diffusion_s3_depth_batch"),
        code=figure_code("diffusion_s3_depth_batch"),
    script:
        "../workflow/figure.py"


rule diffusion_s4_learning_rate:
    """Exponents, loss and displacement against the learning rate."""
    input:
        scalars=figure_tables("diffusion_s4_learning_rate", "scalars"),
        series=figure_tables("diffusion_s4_learning_rate", "series"),
    output:
        png=report(
            paths.figure("diffusion_s4_learning_rate", "png"),
            caption="../workflow/report/diffusion_s4_learning_rate.rst",
            category="diffusion",
        ),
        pdf=paths.figure("diffusion_s4_learning_rate", "pdf"),
        csv=paths.figure("diffusion_s4_learning_rate", "csv"),
    log:
        paths.log("figure", "diffusion_s4_learning_rate"),
    conda:
        "../envs/analysis.yaml"
    params:
        style=figure_style("diffusion_s4_learning_rate"),
        load=figure_axis("diffusion_s4_learning_rate", "load"),
        temperature=figure_axis("diffusion_s4_learning_rate", "temperature"),
        caption=caption_of("diffusion_s4_learning_rate"),
        code=figure_code("diffusion_s4_learning_rate"),
    script:
        "../workflow/figure.py"
