"""Who did what, and when keys were used; it must not know how a keystore is written."""
