"""The daemon: everything with a socket, a clock or a thread."""
