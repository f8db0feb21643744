"""What an API key is, and how it stands in an entry; it must not know files."""
