"""From raw samples to windows: no socket, clock, thread, log or global in here."""
