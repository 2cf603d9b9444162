"""Debian's Firefox for playwright: a program that playwright starts instead of the browser.

playwright drives an unmodified Firefox by WebDriver BiDi, but this Firefox has no command to emulate media features.
The program passes the messages on, and answers this command itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import stat
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

MISSING_COMMAND = "emulation.setMediaFeaturesOverride"
PREFERENCES = {"ui.prefersReducedMotion": 1}
"""What the command would have done."""


def find_firefox() -> str | None:
    """Return the path of Firefox, or None."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


def write_launcher(directory: Path) -> Path:
    """Return the path of an executable that runs this program."""
    launcher = directory / "firefox"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return launcher


async def main(arguments: list[str]) -> None:
    """Run Firefox, and a server between it and playwright."""
    firefox = await create_subprocess_exec(str(find_firefox()), *arguments, stdout=PIPE, stderr=PIPE)
    address = await _find_address(firefox)
    drains = [asyncio.create_task(_drain(stream)) for stream in (firefox.stdout, firefox.stderr) if stream]

    async def handle(playwright: ServerConnection) -> None:
        async with connect(f"{address}/session", max_size=None, compression=None) as browser:

            async def send() -> None:
                async for text in playwright:
                    message = json.loads(text)
                    if message["method"] == MISSING_COMMAND:
                        answer = {"type": "success", "id": message["id"], "result": {}}
                        await playwright.send(json.dumps(answer))
                    else:
                        await browser.send(text)

            async def receive() -> None:
                async for text in browser:
                    await playwright.send(text)

            both = [asyncio.create_task(send()), asyncio.create_task(receive())]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    async with serve(handle, "127.0.0.1", 0, max_size=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"WebDriver BiDi listening on ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
        await firefox.wait()
    await asyncio.gather(*drains)


async def _find_address(firefox: Process) -> str:
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line.decode()):
            return found[1]
        sys.stderr.buffer.write(line)
    raise SystemExit("Firefox has ended.")


async def _drain(stream: asyncio.StreamReader) -> None:
    async for _ in stream:
        pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
