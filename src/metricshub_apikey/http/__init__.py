"""
HTTP for everything that serves.

The only room that knows uvicorn, and it must not know what a key is.
"""
