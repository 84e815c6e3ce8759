#!/bin/sh
# A producer that is curl: one task, a batch with options, and what became of it.
#
#     lmdbq serve
#     ./producer.sh
set -eu
url=${LMDBQ_URL:-http://localhost:7325}
post() { curl --silent --show-error --fail-with-body -H 'content-type: application/json' -d "$2" "$url$1"; }

post /v1/tasks '{"type": "send", "queue_name": "mail", "payload": {"to": "ada"}}'

# All of a batch is accepted or none. With an Idempotency-Key the whole request may be sent again after a lost answer.
curl --silent --show-error --fail-with-body "$url/v1/enqueue" \
    -H 'content-type: application/json' -H "idempotency-key: batch-$$" -d '{
    "queue_name": "mail", "return_tasks": false, "entries": [
        {"type": "send", "payload": {"to": "bob"}, "dedupe_key": "bob", "delay_in_seconds": 60},
        {"type": "send", "payload": {"to": "eve"}, "priority": -10, "expires_in_seconds": 3600,
         "retry_strategy": {"retry_intervals_in_seconds": [1, 10, 60]}}]}'

# A bulk import is a line for each task.
printf '{"type": "send", "payload": {"to": "%s"}}\n' kim lee sam |
    curl --silent --show-error --fail-with-body "$url/v1/enqueue?queue_name=mail" \
        -H 'content-type: application/x-ndjson' --data-binary @-

curl --silent --show-error --fail-with-body "$url/v1/tasks/count?queue_name=mail"
