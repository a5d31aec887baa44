"""The journal of decisions: who was to answer, how likely that was, what came of it, and what callers said of it.

A row a decision, without a word of any request: `entry.py` is its type, `record.py` follows an answer to its end,
`journal.py` counts it, `row.py` words it, `session.py` hides whose conversation it was, and `archive.py` has it worded
and written behind the answers, into router/store/decisions.py.
"""
