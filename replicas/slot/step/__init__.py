"""The scheduler: who is served, and what one step of the loop does for them."""
