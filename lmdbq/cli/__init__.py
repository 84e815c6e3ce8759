"""The command line: ``start`` begins, ``main`` finds a command, ``common`` and ``exits`` are what all share.

``render`` is what they print, ``progress`` a bar; ``filters`` is shared by the commands about many tasks, ``supervise``
and ``child`` by those that run other commands. Every other module is one command: its options, and a function.
"""
