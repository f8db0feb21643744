"""
Texts in formats of others: TOML and YAML, each value with its line; Prometheus; a terminal's lines.

It must not know what the values mean.
"""
