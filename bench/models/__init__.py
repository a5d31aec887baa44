"""Models to measure and test with: real formats, random weights, made here without torch."""
