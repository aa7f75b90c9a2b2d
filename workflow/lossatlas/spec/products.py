"""What each kind of metric puts in the tables: names of scalars, and of what each is one."""

from __future__ import annotations

# Numbers of each window that `diffusion` writes as scalars for the first and the last window.
WINDOW_SCALARS = {
    "exponent": "of the displacement, over the lags of `fit`",
    "still_exponent": "the same without the window's mean drift",
    "surrogate_exponent": "the same of paths with reordered steps, drift included",
    "early_exponent": "before the crossover, of a bent line from half the smallest lag of `fit` on",
    "late_exponent": "after the crossover",
    "crossover": "lag of the bend (steps)",
    "msd_long": "mean squared displacement at the largest lag",
    "velocity_correlation": "of successive steps, from -1 to 1",
    "path_exponent": "of the squared displacement against path length: 2 straight, 1 random",
    "msl_exponent": "of the squared difference of mini-batch losses against distance",
    "loss_variance": "mean variance of the loss over 101 steps (nats squared)",
    "stable_alpha": "stable index of pooled gradient entries, from the characteristic function",
    "quantile_alpha": "the same, from five quantiles",
    "layer_alpha": "of entries divided by the root mean square of their tensor's at that step",
    "mixture_alpha": "of normal numbers with the scales of the kept parameters: the null",
    "standardised_alpha": "of kept parameters' gradients, each divided by its standard deviation",
    "tail_index": "from how the norms of sums of gradients grow, by mean logarithms",
    "tail_index_ranked": "the same, by medians",
    "downhill": "share of steps that lower the loss of their own batch",
    "msl_whole_exponent": "as `msl_exponent`, of the loss on all images",
    "noise_exponent": "of a power law fitted to the tail of the norms of gradient noise",
    "noise_ratio": "log likelihood of that law less that of an exponential one, in standard errors",
}

# What each kind writes: name of the scalar -> of what ("replica", "pair" or "cell").
PRODUCES: dict[str, dict[str, str]] = {
    "performance": {
        "train_loss": "replica",
        "train_accuracy": "replica",
        "test_loss": "replica",
        "test_accuracy": "replica",
        "ensemble_accuracy": "cell",
        "ensemble_nll": "cell",
    },
    "hessian": {"hessian_eigenvalue": "replica", "hessian_trace": "replica"},
    "connectivity": {
        "mode_connectivity": "pair",
        "path_dip": "pair",
        "path_bump": "pair",
        "linear_barrier": "pair",
    },
    "cka": {"cka": "pair", "cka_biased": "pair", "cka_unbiased": "pair"},
    "distance": {
        "l2_distance": "pair",
        "normalised_distance": "pair",
        "disagreement": "pair",
        "js_divergence": "pair",
        "logit_cosine": "pair",
    },
    "simplex": {
        "mode_loss": "replica",
        "inside_loss": "cell",
        "inside_loss_max": "cell",
        "inside_accuracy_min": "cell",
        "segment_loss_max": "cell",
        "path_loss_max": "cell",
    },
    "simplex_volume": {
        "log_volume_fixed": "cell",
        "log_volume_epsilon": "cell",
        "log_volume_paper": "cell",
    },
    "espro": {"simplex_disagreement": "replica", "mode_disagreement": "pair"},
    "diffusion": {f"{n}_{w}": "replica" for n in WINDOW_SCALARS for w in ("first", "last")},
    "hessian_path": {
        "eigenvalue_start": "replica",
        "eigenvalue_end": "replica",
        "eigenvalue_peak": "replica",
    },
    "landscape": {
        "roughness_exponent": "replica",
        "log_roughness_exponent": "replica",
        "box_dimension": "replica",
        "pca_roughness_exponent": "replica",
        "pca_box_dimension": "replica",
        "pca_share": "replica",
    },
}
