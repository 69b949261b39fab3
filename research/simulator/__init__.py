"""The fits of the simulator to recordings, and how close it comes."""
