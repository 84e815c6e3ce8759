"""What lmdbq must reach, and the committed results: a table over the engine ``lmdbq.bench``; see ``python -m bench``."""
