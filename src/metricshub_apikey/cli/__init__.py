"""The command line: each command's body parses, calls and prints; a family of them is a file."""
