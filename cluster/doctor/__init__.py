"""`shoal doctor`: checks of this machine, each with what mends it. A module per area, a generator per check."""
