"""The shape of Phi-4-mini on this machine: memory, decode speed, and the way across its LongRoPE switch."""
