"""``python -m lmdbq.cli`` is ``lmdbq``, for places where the script is not on the path."""

from lmdbq.cli.start import main

if __name__ == "__main__":
    main()
