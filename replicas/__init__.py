"""One model that answers: engines, model store, tokenizers. No Ray, no HTTP server."""
