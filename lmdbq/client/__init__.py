"""The client, from the outside in:

    aio, aio_handles         the verbs, awaited; sync, sync_handles: the same, made from them
    tasks, binding           functions as tasks, and their arguments as payloads
    entries, options, info   what a task is told, and what is known of it; encoding: values to JSON and back
    worker, runners, slots   functions run on an event loop, in threads, in processes; attempts, context, directives
    work_loop, claims        claim, run, report, until a signal; leases: what keeps them; job_worker, exec: programs
    places                   "http://...", a directory, ":memory:" -> a transport
    core, conversation       requests and answers, and when to send again, without I/O
    sending, connection      HTTP for threads; async_sending: for an event loop; http: the API's own words
    embedded*, loop_thread   a queue in this process, without a daemon

Only ``embedded_file`` imports the engine and the store, and nothing imports the daemon: a script that enqueues starts
fast.
"""
