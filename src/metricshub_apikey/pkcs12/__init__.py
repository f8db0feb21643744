"""PKCS#12 as Java's `KeyStore` writes it (RFC 7292): bytes to entries, and back unharmed."""
