"""MQTT connections: the policy, the fast client, and the addresses of brokers."""
