"""The "Ranges" tab in every state: what it says, and that it can be read by everybody, at every width."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import OpenState, shoot
from tests.ui.page_checks import find_faults, looks
from tests.ui.states import STATES

pytestmark = pytest.mark.ui


@pytest.mark.parametrize("browser_name", ["chromium", "firefox"])
@pytest.mark.parametrize("name", STATES)
def test_a_state_is_said_and_can_be_read(open_state: OpenState, name: str, browser_name: str) -> None:
    state = STATES[name]()
    page = open_state(state.report, state.instance, earlier=state.earlier)
    for text in state.says:
        expect(page.locator("#message, #report > header").filter(has_text=re.compile(text)).first).to_be_visible()
    faults = {}
    for look in looks(page):
        faults[look] = find_faults(page)
        shoot(page, f"state-{name}-{look}-{browser_name}")
    assert {look: found for look, found in faults.items() if found} == {}
