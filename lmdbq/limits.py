"""Every limit of lmdbq, each a name with its unit last and, where it is a sum, its sum.

Nothing here depends on anything; whoever enforces a limit imports its name, so a number stands in one place.
"""

from __future__ import annotations

from typing import Final

US_NS: Final = 1_000
MS_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

# Names and small fields.
NAME_BYTES_MAX: Final = 128
TAGS_MAX: Final = 16
TAG_BYTES_MAX: Final = 128
METADATA_BYTES_MAX: Final = 4 * 1024
DEDUPE_KEY_CHARS_MAX: Final = 256
DEDUPE_RAW_BYTES_MAX: Final = 400  # longer keys stand as a prefix and a digest, see keyspace
CLAIM_ID_BYTES_MAX: Final = 64
IDEMPOTENCY_KEY_BYTES_MAX: Final = 255
TYPES_PER_QUEUE_MAX: Final = 1_000
NAMESPACES: Final = (1,)  # of external ids; one for each protocol whose ids are kept, 1 is lmdbq's own
GROUP_RULES_MAX: Final = 1_000
RATE_TOKENS_MAX: Final = 1_000_000
RATE_PERIOD_NS_MIN: Final = 1 * MS_NS
RATE_PERIOD_NS_MAX: Final = 1 * DAY_NS
RUNNING_MAX: Final = 2**31 - 1  # the highest cap that can be said

# Payloads and bodies.
PAYLOAD_BYTES_MAX: Final = 1024 * 1024
PAYLOAD_DEPTH_MAX: Final = 128  # arrays and objects within each other; every JSON reader can follow this far
RESULT_BYTES_MAX: Final = 64 * 1024
ERROR_MESSAGE_CHARS_MAX: Final = 4_096
ERROR_BACKTRACE_CHARS_MAX: Final = 16_384
ERRORS_KEPT_MAX: Final = 20
BODY_BYTES_MAX: Final = 32 * 1024 * 1024
ENTRIES_MAX: Final = 10_000
PROBLEMS_MAX: Final = 20

# Transactions.
TRANSACTION_ENTRIES_MAX: Final = 10_000
TRANSACTION_BYTES_MAX: Final = 8 * 1024 * 1024
SWEEP_MAX: Final = 1_000  # what one timed op moves at the most

# Claims.
CLAIM_TASKS_MAX: Final = 1_000
CLAIM_BYTES_MAX: Final = 8 * 1024 * 1024
CLAIM_QUEUES_MAX: Final = 100
WAIT_SECONDS_MAX: Final = 60.0

# Leases.
KEEPALIVE_NS_MIN: Final = 1 * SECOND_NS
KEEPALIVE_NS_MAX: Final = 12 * HOUR_NS
KEEPALIVE_NS_DEFAULT: Final = 60 * SECOND_NS
DAEMON_START_GRACE_NS: Final = 5 * SECOND_NS

# Priority: a signed 16-bit number, lower runs sooner.
PRIORITY_MIN: Final = -32_768
PRIORITY_MAX: Final = 32_767

# Attempts and backoff.
ATTEMPTS_MAX: Final = 1_000
ATTEMPTS_DEFAULT: Final = 5
DELIVERIES_PER_ATTEMPT_DEFAULT: Final = 4  # max_deliveries = 4 x max_attempts unless set
DELIVERIES_MAX: Final = 1_000_000
INTERVALS_MAX: Final = 100
BACKOFF_BASE_NS_DEFAULT: Final = 1 * SECOND_NS
BACKOFF_FACTOR_DEFAULT: Final = 2.0
BACKOFF_CAP_NS_DEFAULT: Final = 300 * SECOND_NS
BACKOFF_JITTER_DEFAULT: Final = 0.25
DELAY_NS_MAX: Final = 10 * 366 * DAY_NS

# Instants: nanoseconds since 1970 that are whole microseconds.
INSTANT_NS_MIN: Final = 10**17  # anything from 1 to here is surely another unit
INSTANT_NS_MAX: Final = 2**63 - 1 - (2**63 - 1) % US_NS

# Queues.
AGEING_NS_DEFAULT: Final = 1 * MINUTE_NS  # what one point of priority is worth in a queue whose order is ageing
WEIGHT_MAX: Final = 1_000  # of a queue among others, and of a group
MAX_RUNNING_MAX: Final = 1_000_000_000

# Schedules.
SCHEDULES_MAX: Final = 10_000
SCHEDULE_PAYLOAD_BYTES_MAX: Final = 64 * 1024
SCHEDULE_METADATA_BYTES_MAX: Final = METADATA_BYTES_MAX - 512  # a name of 128 bytes, escaped, and an instant are added
FIRE_GRACE_NS: Final = 1 * MINUTE_NS  # an instant that is dealt with later than this was missed
CATCH_UP_INSTANTS_MAX: Final = 100  # how many instants of a schedule may be made up for; the latest are
FIRE_TASKS_MAX: Final = 32  # what one Fire enqueues: x 64 KiB of payload is room for 2 MiB
UPCOMING_DEFAULT: Final = 5  # instants to come that are shown
UPCOMING_MAX: Final = 100

# Sets.
SET_PAYLOAD_BYTES_MAX: Final = 64 * 1024  # of a callback: it is written again with the counts of its set

# How long things are kept.
KEEP_SUCCEEDED_NS_DEFAULT: Final = 0
KEEP_RESULT_NS_DEFAULT: Final = 1 * HOUR_NS  # a succeeded task that has a result
KEEP_DEAD_NS_DEFAULT: Final = 30 * DAY_NS
KEEP_CANCELLED_NS_DEFAULT: Final = 1 * HOUR_NS
KEEP_SET_NS_DEFAULT: Final = 7 * DAY_NS  # a set that was decided
KEEP_NS_MAX: Final = 3_660 * DAY_NS
ENDED_PER_QUEUE_MAX: Final = 100_000  # per state
MEMO_KEPT_NS: Final = 1 * HOUR_NS  # idempotency keys and claim ids

# Paging and reads.
PAGE_TASKS_MAX: Final = 1_000
SCAN_TASKS_MAX: Final = 5_000  # what one page of a filtered list looks at

# The daemon.
LISTEN_DEFAULT: Final = "127.0.0.1:7325"
LOCK_WAIT_BUSY_SECONDS: Final = 5.0
GRACE_WORKER_SECONDS: Final = 25.0
GRACE_DAEMON_SECONDS: Final = 8.0
LOOK_SECONDS: Final = 0.5  # how often timers look at the wall clock even when nothing is due

# The file.
MAP_BYTES_DEFAULT: Final = 1 << 40
