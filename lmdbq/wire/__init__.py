"""The native HTTP API in data: what travels, and its translation to and from engine units. No I/O.

Both ends of the wire use it, the daemon and the client. Where to look:

    shapes.py               what callers may send            requests.py, reports.py, filters.py   bodies -> ops
    answers.py, frames.py   what the daemon answers          render*.py, views.py                  outcomes -> bodies
    values.py               instants, durations, names       payloads.py                           encodings
    policies.py             retry, keep, dedupe, settings    problems.py                           errors, codecs
"""
