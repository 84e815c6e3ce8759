"""Which check of the four systems is held where: the count behind README's table of deviations.

Each of the four systems that lmdbq takes its features from has a list of what its users rely on, as given/when/then,
numbered. A check about behaviour has a test named after it: ``test_SYSTEM_SECTION_NUMBER_words``. Here stands the rest:
``ELSEWHERE``, tests that held a check before it was given a number here; ``WIRE``, what is about a system's own wire
format, client or process, which its dialect will be held to; and ``DEVIATIONS``, where lmdbq means to differ: what it
does instead, and why. ``test_peer_checks`` sees that no number is missing.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Deviation(NamedTuple):
    """A check that lmdbq does not follow: what it asks, what lmdbq does, and why."""

    check: str
    ours: str
    why: str


SECTION: Final = {"moab": 6, "zizq": 6, "eddyq": 7, "runqy": 6}
LAST: Final = {"moab": 88, "zizq": 108, "eddyq": 113, "runqy": 69}

WIRE: Final[dict[str, frozenset[int]]] = {
    "moab": frozenset({17, 25, 39, 48, 67, 81, 82, 83, 88}),
    "zizq": frozenset(
        {*range(1, 17), 18, 19, 20, 21, 22, 24, 25, 26, 30, 32, 33, 36, 37, 38, 39, 40, 55, 56, 57}
        | {64, 66, 67, 68, 69, 70, 72, 74, 79, 81, 82, 84, 101, 102, 104, 105, 106}
    ),
    "eddyq": frozenset({70, 106, 112, 113}),
    "runqy": frozenset(
        {*range(1, 29), 30, 31, 32, 33, 36, 37, 38, 39, 41, *range(43, 56), *range(57, 64), 65, 66, 68, 69}
    ),
}

ELSEWHERE: Final[dict[str, dict[int, str]]] = {
    "moab": {
        43: "test_the_oldest_goes_at_the_next_death",
        70: "test_a_new_schedule_stands_at_its_first_instant",
        73: "test_an_instant_that_has_come_gives_one_task_and_moves_the_schedule_on",
        75: "test_instants_rise_and_end",
        58: "test_a_queue_from_creation_to_deletion",
        63: "test_another_process_enqueues_into_the_served_file_and_may_be_killed",
        84: "test_a_storm_of_kills_loses_nothing_and_does_nothing_twice",
        87: "test_a_signal_lets_eight_finish_and_hands_eight_back",
    },
    "zizq": {
        41: "test_a_dropped_stream_gives_its_tasks_back_uncounted",
        42: "test_tasks_are_pushed_and_reported_over_another_connection",
        43: "test_a_parked_dequeue_is_served_by_an_enqueue",
        49: "test_a_storm_of_kills_loses_nothing_and_does_nothing_twice",
        94: "test_a_new_schedule_stands_at_its_first_instant",
        96: "test_eddyq_7_101_what_cannot_be_a_schedule_is_refused",
        98: "test_moab_6_76_a_schedule_of_every_second_gives_sixty_tasks_in_a_minute",
        75: "test_actions_on_all_that_match",
        50: "test_a_stop_gives_back_what_a_stream_holds_and_nobody_reports",
    },
    "eddyq": {
        31: "test_every_2xx_is_sent_after_the_sync_that_covers_it",
        32: "test_what_is_aborted_leaves_no_trace",
        33: "test_what_is_committed_is_enqueued",
        34: "test_who_waits_hears_of_it",
        36: "test_an_enqueue_and_the_claim_of_who_waits_share_an_apply",
        38: "test_a_child_that_is_aborted_takes_only_its_own_along",
        39: "test_a_storm_of_kills_loses_nothing_and_does_nothing_twice",
        35: "test_a_child_that_is_aborted_takes_only_its_own_along",
        37: "test_what_is_aborted_leaves_no_trace",
        61: "test_async_functions_run_together",
        67: "test_the_grace_is_an_end",
        69: "test_a_signal_lets_eight_finish_and_hands_eight_back",
        80: "test_moab_6_21_max_running_holds_over_claims_and_ends",
        97: "test_moab_6_76_a_schedule_of_every_second_gives_sixty_tasks_in_a_minute",
        103: "test_zizq_6_97_a_paused_schedule_fires_nothing_and_begins_anew_when_it_is_resumed",
        104: "test_each_instant_gives_one_task_though_the_daemon_is_killed_about_it",
        110: "test_wrong_parameters_do_not_widen_a_list",
        111: "test_a_worker_without_a_daemon_says_so_at_once",
    },
    "runqy": {
        64: "test_a_storm_of_kills_loses_nothing_and_does_nothing_twice",
    },
}

DEVIATIONS: Final[dict[str, dict[int, Deviation]]] = {
    "moab": {
        5: Deviation(
            "an expiry beyond the queue's is cut to it",
            "a task's own expiry wins",
            "one rule for all settings: what the task says, then its type, then its queue",
        ),
        6: Deviation("scheduling ends 14 days ahead", "up to 100 years", "a file does not forget"),
        7: Deviation("25 entries a call", "10,000", "a batch is what makes a sync cheap"),
        30: Deviation(
            "without dead letters a death leaves no count",
            "it is counted in `dead`, whether it is kept or not",
            "a task must not vanish from the sums",
        ),
        40: Deviation(
            "a failure after expires_at deletes the task",
            "it is dead with the reason would_expire, and kept as dead tasks are",
            "somebody wants to know why it was never finished",
        ),
        51: Deviation(
            "a head that fails lets a sibling with an earlier time go first",
            "it keeps its place while it waits for its retry; `rejoin` gives it up",
            "strict order is what a thread is for",
        ),
        59: Deviation(
            "an update of a queue names the version it changes",
            "PATCH changes the fields it names; PUT replaces all; the last one holds",
            "settings are data that is applied again (`lmdbq apply`), not a document that two people edit",
        ),
        61: Deviation("a purge starts the lifetime counts anew", "they go on; a delete ends them", "they are totals"),
        72: Deviation(
            "a queue takes its schedules along when it is deleted",
            "a schedule lives on, and its next task makes the queue anew",
            "a schedule names a queue as every other producer does",
        ),
        78: Deviation(
            "cron knows the nearest weekday (`15W`) and years",
            "both are refused; days are joined by OR unless one begins with `*`, as Debian's cron does",
            "the library's rules, which are those people know from crontab",
        ),
        65: Deviation(
            "a list is ordered by its state's time, and leaves out who waits behind a thread's head",
            "every list is by id and holds all that match",
            "a cursor must stay good while tasks move",
        ),
    },
    "zizq": {
        99: Deviation(
            "making a schedule whose name is taken is an error",
            "PUT replaces it, and keeps the instant it fired last",
            "settings are applied again and again",
        ),
        17: Deviation("a priority is 0 .. 65,535 and 32,768 if not said", "-32,768 .. 32,767 and 0", "as with nice"),
        41: Deviation(
            "a task whose stream broke is given again first",
            "it is, by its old rank; the delivery is counted, the attempt is not",
            "`max_deliveries` must end a task that kills every worker",
        ),
        52: Deviation(
            "a second success is an error",
            "it is ok while the task is stored",
            "the answer to the first may have been lost",
        ),
        59: Deviation(
            "a failure that names its retry time outlives the limit of attempts",
            "max_attempts holds",
            "else a limit is none; Snooze is for what should not count",
        ),
        61: Deviation(
            "backoff is a base added to a power of the failures",
            "base x failures ** exponent",
            "the field's polynomial; the dialect translates",
        ),
        77: Deviation(
            "a task past its time of keeping is hidden before it is removed",
            "it is shown until it is removed, which a daemon does at once",
            "what is shown is what is stored",
        ),
    },
    "eddyq": {
        1: Deviation("three attempts", "five", "exponential backoff from one second needs them"),
        21: Deviation("an empty key is a key", 'dedupe_key "" is none', "an empty form field must not block a queue"),
        23: Deviation(
            "a rolled-back enqueue of a key lets another in",
            "so here, and also before: a transaction holds the write lock, so nobody waits for its outcome",
            "one writer",
        ),
        29: Deviation("5,000 entries a call", "10,000", "a batch is what makes a sync cheap"),
        40: Deviation("the higher priority number runs first", "the lower one", "as with nice; the dialect turns it"),
        53: Deviation("Retry on the last attempt may be forced", "it is dead", "a limit that can be passed is none"),
        63: Deviation(
            "a queue has a time-out that can be set and cleared",
            "a function has one; a queue has the length of its leases",
            "what stops a handler must be where it runs",
        ),
        62: Deviation(
            "a time-out only asks a handler to stop",
            "an async one is cancelled, a process killed; a thread is refused one",
            "a time-out that does not stop is a second run beside the first",
        ),
        84: Deviation("a cap below zero is zero", "it is refused", "a wrong sign is a mistake"),
        91: Deviation(
            "a rule is copied into a group when its first task comes",
            "rules hold for every group as they are now",
            "a change of a rule is meant for those that exist, too",
        ),
        72: Deviation(
            "starting a worker twice is an error",
            "run() of one that has been started waits for its end",
            "starting and stopping twice is harmless",
        ),
    },
    "runqy": {
        34: Deviation("a result is JSON text", "the JSON value", "text in text must be read twice"),
    },
}
