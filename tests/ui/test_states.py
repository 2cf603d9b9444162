"""The "Ranges" tab in every state: what it says, and that it can be read by everybody, at every width."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.ui.conftest import OpenState, shoot
from tests.ui.page_checks import LOOKS, find_faults, looks
from tests.ui.states import STATES, State

pytestmark = pytest.mark.ui

FEW_LOOKS = [(1440, "light"), (390, "dark")]


@cache
def make_state(name: str) -> State:
    return STATES[name]()


@pytest.mark.parametrize("browser_name", ["chromium", "firefox"])
@pytest.mark.parametrize("name", STATES)
def test_a_state_is_shown_in_words(open_state: OpenState, name: str, browser_name: str) -> None:
    state = make_state(name)
    page = open_state(state.report, state.instance, earlier=state.earlier)
    page.locator("#report").wait_for()
    said = page.locator("#message").inner_text() + "\n" + page.locator("#report > header").inner_text()
    faults = [f"{text!r} is not in {said!r}" for text in state.says if not re.search(text, said, re.IGNORECASE)]
    faults += [said] if "cannot show a part of the report" in said else []
    for look in looks(page, LOOKS if browser_name == "chromium" else FEW_LOOKS):
        faults += [f"{look}: {fault}" for fault in find_faults(page, look)]
        shoot(page, f"state-{name}-{look}-{browser_name}")
    assert faults == []
