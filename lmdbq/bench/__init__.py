"""The engine of the benchmarks: workloads and targets as data, one runner, results as files.

Everything a figure needs stands in its result file: the command, the machine, LMDB's engine, every round, and the syncs
that were *seen*, not configured. ``lmdbq bench`` runs it for users on their own machine; a clone's ``python -m bench``
measures what lmdbq itself must reach. What is measured besides lmdbq needs the extra ``lmdbq[bench]``; without it those
targets are listed as absent.
"""
