"""How an answer is got from a route that has been decided: tries, retries, breakers, hedges and the bar for quality.

    Run (run.py): one request's way along its links --- Attempt (attempt.py): one ask of one backend
      |-- Breaker (breaker.py): is the pool worth asking now?      |-- Gate (gate.py): is what it says good enough?
      |-- Retries (backoff.py): again here, after how long?        |-- checks.py, validity.py: what is wrong with it
      `-- reading (failure.py): what an error means for the request and for the pool

Nothing here knows Ray, HTTP or a model: backends, clock and chance are given. Before its first content an answer may
come from anywhere along the chain; after it nobody else takes over, and a stream that breaks ends in its error.
"""
