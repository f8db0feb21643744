"""What an administrator looks at: checks, repair, leaks; it must not know the terminal."""
