"""
The keystore file: where it is, its passwords, read and update.

It must not know what a key may do.
"""
