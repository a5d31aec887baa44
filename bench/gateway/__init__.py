"""What a gateway costs between a caller and a cloud: Shoal and LiteLLM's proxy, in turns, in front of one upstream."""
