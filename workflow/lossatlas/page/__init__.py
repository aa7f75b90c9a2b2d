"""The atlas as one HTML file to explore.

`write` puts it together, `contents`, `lines` and `runs` say what stands in it, and the folder
`look` holds its template, styles and scripts.
"""
