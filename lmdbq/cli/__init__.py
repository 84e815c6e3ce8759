"""The command line: ``main`` finds a command, ``common`` and ``exits`` are what all share, ``render`` what they print.

``filters`` is shared by the commands about many tasks, ``supervise`` and ``child`` by those that run other commands,
``progress`` by those that copy files.
Every other module is one command: its options, and a function.
"""
