"""What lmdbq must reach, and the committed results: the table over the engine in ``lmdbq.bench``. See ``python -m bench``."""
