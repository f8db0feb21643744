"""
Texts that people write, each value with its line: TOML and YAML.

It must not know what the values mean.
"""
