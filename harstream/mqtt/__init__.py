"""MQTT: addresses and TLS settings, the connection and its policy, and the fast client below it."""
