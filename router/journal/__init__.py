"""The journal of decisions: who was chosen to answer, how likely that was, what came of it, and what callers said of it.

A row a decision, without a word of any request: `entry.py` is its type, `record.py` follows an answer to its end,
`journal.py` writes rows behind the answers and drops old ones. The store keeps them (router/store/decisions.py).
"""
