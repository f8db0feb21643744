"""What several gateways share on a Redis or Valkey server; the only room that knows redis."""
