"""The aiohttp application: the routes of the table around one ``Daemon``."""

from __future__ import annotations

from aiohttp import web

from lmdbq import limits
from lmdbq.daemon.access import Access
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.middleware import ROLE_ATTRIBUTE, shell
from lmdbq.daemon.routes import ROUTES
from lmdbq.daemon.settings import Settings
from lmdbq.engine.queue import Engine


def make_app(settings: Settings, engine: Engine) -> web.Application:
    """Return the application for a started engine. Raises BadSetting for an address that would be unsafe."""
    app = web.Application(middlewares=[shell], client_max_size=limits.BODY_BYTES_MAX)
    app[DAEMON] = Daemon(settings, engine, Access(settings))
    for route in ROUTES:
        setattr(route.handler, ROLE_ATTRIBUTE, route.role)
        if route.method == "GET":
            app.router.add_get(route.path, route.handler, name=route.operation, allow_head=True)
        else:
            app.router.add_route(route.method, route.path, route.handler, name=route.operation)
    return app
