"""
What `apikey list` cannot do without, as a program: nothing else is in it.

Click, the ciphers, and the two derivations that a keystore of ours asks for: the PKCS#12 KDF for
the seal of the file, and one PBKDF2 for all of its keys.
"""

from __future__ import annotations

import hashlib

import click
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

ITERATIONS = 10_000

state = bytes(256)
for _ in range(ITERATIONS):
    state = hashlib.sha256(state).digest()
key = hashlib.pbkdf2_hmac("sha256", b"secret", bytes(20), ITERATIONS, 32)
click.echo(Cipher(AES(key), CBC(bytes(16))).decryptor().update(bytes(16)).hex())
