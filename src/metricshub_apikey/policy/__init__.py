"""What keys may be and do: the rules; it must not know where keys are kept."""
