"""CONTRACT 2: topics and payloads. Pure functions between bytes and arrays."""
