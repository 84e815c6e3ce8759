"""The benchmark harness: workloads and targets as data, one runner, results as files.

``python -m bench`` lists what it can do. Everything a figure needs stands in its result file: the command, the machine,
LMDB's engine, every round, and the syncs that were *seen*, not configured. No figure is published without such a file.
"""
