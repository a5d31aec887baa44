"""A scripted upstream: the Anthropic and OpenAI protocols over a socket, with answers and faults from a script.

It stands for a cloud in tests. It shares no code with `router/`: its readings of both protocols are its own and are
held against the vendors' packages, so a mistake of Shoal's dialects cannot hide in it. It keeps every byte it gets.
"""
