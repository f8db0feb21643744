"""What can be done with API keys; it must not know the terminal, HTTP or the words of an answer."""
