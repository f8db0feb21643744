"""The commands of `apikey`: options, a call, what is shown; they must not decide anything."""
