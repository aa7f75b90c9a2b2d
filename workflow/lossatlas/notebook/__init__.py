"""Functions for notebooks: one call on modules and data as they are.

    import lossatlas

    found = lossatlas.hessian(model, (inputs, targets))
    found["hessian_trace"]    # value, standard error, status, unit
    found.to_pandas()
    found.plot()

They are exported by `lossatlas` itself: `hessian`, `connect`, `similarity`, `grow_simplex`,
`plane`, `msd`, `read_checkpoint`. This package is a thin layer over the metrics: each function
makes the networks and the data of a metric, measures it, and returns a `results.Result`.
"""
