"""Simplexes of low loss and fast ensembles in them (Benton et al., ICML 2021)."""
