"""Storms: everything around the queue fails in every way it can, and nothing that was answered may be lost.

    session     a user of the library who does a little of everything     script   what that user asks for
    child       the same as a process of its own                          look     what a reader sees
    served_child  one through the daemon, by several callers
    ledger      what was answered, in lines of its own; no lmdbq code     images   judging a file that is left

    kill        processes are killed          kill_cast     who plays         kill_caller, kill_library  what they do
    kill_judge  what became of it, by their notes alone       kill_plants   faults of daemon and library

    power_cut   the power fails                                           fail_runs  single system calls fail
    trace       running under strace, reading it                          fail_call  one run of it
    recording   what was asked of the disk      disk      what may be on it afterwards   names  in directories
    workers     many images at once             planted   faults that must be found, or nothing is proved

    clock_steps the clock is set                                          fake_clock  the clock that is set
    clock_rig   who uses the daemon meanwhile                             clock_parties  what they know and ask for
    hostile     bodies and connections that nobody honest sends           hostile_bodies, _sockets, _schema  which ones
    foreign     what others do to the file        foreign_files, _user, _ground  the files, the others, and where
    served      the daemon as a process         planted_daemon            one with a fault, which must be found

    simulate    the engine in a world that is drawn                       virtual_loop  its time, and who is next
    sim_world   daemon, crashes, network        sim_clients   who asks    sim_parts     in place of threads and disks
    sim_judge   what may be committed           sim_life      what a task may be       sim_watch   what must not last
    sim_plants  faults that must be found

    soak        a daemon for hours              soak_child    who works on it          plateau     whether it grows

The ledger never asks the store what it should be, and the model of the disk knows nothing of LMDB.
"""
