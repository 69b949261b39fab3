"""Topics and payloads: pure functions between the bytes of MQTT messages and arrays."""
