"""What runs on this machine and what it does, for `shoal status`."""
