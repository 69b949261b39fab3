"""harstream: live activity labels from the raw IMU streams of many wearables, over MQTT."""

__version__ = "0.1.0"
