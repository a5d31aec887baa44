"""OpenAI's chat completions, and OpenRouter's additions to them."""
