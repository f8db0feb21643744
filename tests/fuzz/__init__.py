"""The fuzz target and its seeds; see README.md."""
