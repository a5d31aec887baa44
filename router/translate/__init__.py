"""A caller's body as a cloud is to get it: the caller's own where both speak one dialect, else translated.

Pure functions from body to body. What a caller of one dialect can say and the other has no word for is left out when
the answer is still one to the question (a seed, a cache mark, thinking of another model), and an InvalidRequest when it
would not be (a regular expression that the answer must match). Answers need no translation: they come as chunks.
"""
