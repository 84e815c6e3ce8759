"""Where tasks are kept. Begin with ``base``, the promise of every store; then follow one call down:

    base                what a store promises            memory*             the same promise on dicts, for tests
    lmdb                open, close, read                 lmdb_reads          what readers see
    lmdb_apply          one transaction for many calls    lmdb_calls          running them; each alone after an error
    lmdb_ops_*          one module for each kind of op    lmdb_plan, _drafts  an Enqueue, planned before it is written
    lmdb_new_tasks      new tasks, written together       lmdb_taker          a claim taking the best of several queues
    lmdb_tasks          a task ends, is tried again ...   lmdb_standing       where it stands: runs, leases, schedules
    lmdb_work           the transaction at work           lmdb_rows, _counts  its keys and values; its counts
    lmdb_memos          answers kept for a repeat         lmdb_graves, _mend  purged queues; damage made good

The file itself: ``keyspace`` (keys, invariants) and ``records`` (values) specify it; ``creation``, ``environment``,
``lockfile``, ``space`` and ``side`` make it, open it, and keep room ahead; ``check`` and ``dump`` look at it.
"""
