"""The "Ranges" tab of a task instance: a static page whose script reads Airflow's REST API with the viewer's session.

All Airflow processes import this module, so it imports nothing until a page is requested. Airflow serves a plugin's
apps without authentication, so the page itself contains no data.
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
            # Errors contain users' text, which must not become markup.
            "require-trusted-types-for 'script'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # Browsers check for changes, so that page and script have the same version after an upgrade.
    "Cache-Control": "no-cache",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RangesPage:
    """An ASGI application that serves the files of ``static``."""

    @cached_property
    def _files(self) -> Any:
        from starlette.staticfiles import StaticFiles

        return StaticFiles(directory=STATIC, html=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a file with ``HEADERS``."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._files(scope, receive, send_with_headers)


class BurlaPlugin(AirflowPlugin):
    """The plugin that the entry point ``airflow.plugins`` registers."""

    name = "burla"
    fastapi_apps = [{"name": "Burla ranges", "url_prefix": "/burla", "app": RangesPage()}]  # noqa: RUF012
    external_views = [  # noqa: RUF012 (as Airflow declares it)
        {
            "name": "Ranges",
            "destination": "task_instance",
            "url_route": "ranges",
            # Relative, because Airflow may be deployed under a path.
            "href": "burla/?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
        }
    ]
