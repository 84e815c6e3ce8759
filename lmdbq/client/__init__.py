"""The client. From the outside in:

    aio, aio_handles      the verbs (sync, sync_handles: the same, made from them)      tasks, binding   functions as tasks
    places                "http://…", a directory, ":memory:" -> a transport            entries, options what a task is told
    core, conversation    requests and answers, and when to send again, without I/O     encoding, info   values
    sending, connection   HTTP for threads; async_sending: for an event loop            http             the API's own words
    embedded*, loop_thread  a queue in this process, without a daemon                   worker, leases, exec   the work

Only ``embedded_file`` imports the engine and the store, and nothing imports the daemon: a script that enqueues over HTTP
starts fast.
"""
