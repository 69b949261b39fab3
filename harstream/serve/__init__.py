"""Daemon of `harstream run`: the modules with sockets, clocks and threads. Read `app` first."""
