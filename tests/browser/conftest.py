"""The servers that `python -m tests.browser` has started, and a browser that reaches nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.visits import Visit
from tests.support.options import option

OPTIONS = ("server", "guarded", "key")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Every name but that of the servers is unknown to the browser: there is no network.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# On a busy machine.
WAIT_MILLISECONDS = 60_000

expect.set_options(timeout=WAIT_MILLISECONDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in OPTIONS:
        parser.addoption(f"--{name}", help="see python -m tests.browser")
    parser.addoption("--screenshots", action="store_true", help="write the pictures of docs/, and test nothing else")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take screenshots, or run the tests."""
    wanted = config.getoption("--screenshots")
    items[:] = [item for item in items if ("test_screenshots" in item.nodeid) == wanted]


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> str:
    """Return the address of the server that has all models and jobs, and asks for no key."""
    return option(pytestconfig, "server", "browser")


@pytest.fixture(scope="session")
def guarded(pytestconfig: pytest.Config) -> str:
    """Return the address of the server behind a prefix that asks for a key and limits requests."""
    return option(pytestconfig, "guarded", "browser")


@pytest.fixture(scope="session")
def key(pytestconfig: pytest.Config) -> str:
    """Return the key that `guarded` asks for."""
    return option(pytestconfig, "key", "browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise pytest.UsageError("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        # Containers have no user namespaces for its sandbox; it opens our own pages only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", OFFLINE])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Open a session of its own for each test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT_MILLISECONDS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Open a tab; fail for requests to other hosts, faults of scripts, and for what the policy stopped."""
    page = context.new_page()
    hosts: set[str] = set()
    unanswered: set[str] = set()
    faults: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
    page.on("request", lambda request: unanswered.add(request.url))
    page.on("requestfinished", lambda request: unanswered.discard(request.url))
    page.on("requestfailed", lambda request: print("failed:", request.url, request.failure))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    yield page
    print("unanswered:", *unanswered)  # shown where a test fails
    assert hosts <= {"127.0.0.1", ""}  # pictures that were chosen have no host
    assert faults == []


@pytest.fixture
def visit(page: Page, server: str) -> Visit:
    """Return a visit to the server that has all models."""
    return Visit(page, server)
