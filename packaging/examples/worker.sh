#!/bin/sh
# A worker that is a shell script: it gets the payload on its standard input.
#
#     lmdbq worker -q shell --exec ./worker.sh
#     lmdbq enqueue word-count text='one two three' -q shell --wait
#
# Exit status 0: done, and what was printed is the result. Anything else: tried again, and what was said on standard
# error is the message. The environment says which task it is.
set -eu
payload=$(cat)
if [ "$payload" = null ]; then
    echo "task $LMDBQ_TASK_ID, attempt $LMDBQ_ATTEMPT: there is no text" >&2
    exit 1
fi
printf '%s' "$payload" | sed 's/.*"text": *"\([^"]*\)".*/\1/' | wc -w | tr -d ' '
