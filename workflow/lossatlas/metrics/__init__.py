"""Metrics, one declaration per file: settings, outputs, inputs, cost and function.

`base.Metric` is what they all are, `registry` finds them, here and in the user's own modules. No
torch is imported before something is measured: the workflow reads all of these when it is parsed.
"""
