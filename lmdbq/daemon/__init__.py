"""The daemon: HTTP over an engine. Where to look:

routes.py        every route in one table: method, path, handler, who may, what it answers
handlers_*.py    one function per route, by what they are about
middleware.py    access, errors, counting: what every request passes through
serve.py         the process: files, sockets, signals, exit codes
settings.py      every setting and every default, each with its sentence
"""
