"""The "Ranges" tab of a task instance: a static page, whose script reads Airflow's REST API as the viewer.

Airflow imports this in every one of its processes, and serves a plugin's apps without asking who is there: so nothing
is imported before a page is asked for, and nothing is served but the page itself, which knows nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
            # Errors hold users' text: the page's script could not make markup of it even if it tried.
            "require-trusted-types-for 'script'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # After an upgrade of the provider, page and script are of the same version: browsers ask whether they changed.
    "Cache-Control": "no-cache",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RangesPage:
    """The files of ``static``, as an ASGI application."""

    @cached_property
    def _files(self) -> Any:
        from starlette.staticfiles import StaticFiles

        return StaticFiles(directory=STATIC, html=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self._files(scope, receive, send_with_headers)


class BurlaPlugin(AirflowPlugin):
    """Registered by the entry point ``airflow.plugins``."""

    name = "burla"
    fastapi_apps = [{"name": "Burla ranges", "url_prefix": "/burla", "app": RangesPage()}]  # noqa: RUF012
    external_views = [  # noqa: RUF012 (Airflow declares them so)
        {
            "name": "Ranges",
            "destination": "task_instance",
            "url_route": "ranges",
            # Relative, because Airflow may live below a path of its server.
            "href": "burla/?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
        }
    ]
