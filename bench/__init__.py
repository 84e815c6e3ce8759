"""What lmdbq must reach, and the committed results: a table over the engine in the package; see ``python -m bench``."""
