"""Experiments: requests are given variants of a route or of a system prompt, by chance and for good, and compared.

experiment.py, assignment.py   what there is, and who gets which variant
trials.py, prompt.py           a request as its variant has it
observed.py, report.py         what the journal says of the variants, and of the difference between them
intervals.py, sequential.py    how sure that is: at one look, and at any
"""
