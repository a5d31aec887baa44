"""Anthropic's Messages protocol, as the service speaks it: strict in what it takes."""
