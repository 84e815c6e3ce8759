"""The command line: ``main`` finds a command, ``common`` and ``exits`` are what all share, ``render`` what they print.

Every other module is one command: its options, and a function.
"""
