"""Live table of the devices on a broker and their activities, made from the messages of devices and daemon."""
