"""
One file on disk, safely: read, replace, make privately, own, lock.

It must not know what a file holds.
"""
