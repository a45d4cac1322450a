"""Tasks of `dte.toml`: `plan` turns names into a graph, `drift` says whether a checkout can take part, `runner` runs one task."""
