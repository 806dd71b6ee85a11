"""`Ui`: what a person does in the Dagster UI and sees there, by the words on the page.

Everything waits until it is there. How browser and Dagster come up is in `conftest`.
"""

import io
import json
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from incident_assets.demo.server import DemoApi
from incident_assets_tests.pages import ROOT

PICTURES = ROOT / "docs/pictures"
LARGEST = 150_000  # bytes of a picture
PAGE, RUN = 30.0, 180.0  # seconds to wait for
ENDS = ("Success", "Failure", "Canceled")
T = TypeVar("T")


@dataclass
class Ui:
    """The UI at `url` in a browser, with the API behind it, working in `folder`.

    `takes_pictures` says whether `take_picture` writes.
    """

    browser: Chrome
    url: str
    api: DemoApi
    folder: Path
    takes_pictures: bool

    def open(self, path: str, width: int = 1280, height: int = 800) -> None:
        """Go to a page of the UI, or to a file's address, in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.get(path if path.startswith("file:") else self.url + path)

    def read(self) -> str:
        """Return the page's text as it is shown."""
        return self.browser.find_element(By.TAG_NAME, "body").text

    def see(self, *texts: str, within: float = PAGE) -> None:
        """Wait until all texts are on the page."""
        self._wait(lambda: all(text in self.read() for text in texts), texts, within)

    def see_no_more(self, text: str) -> None:
        """Wait until a text is gone from the page."""
        self._wait(lambda: text not in self.read(), f"without {text}")

    def scroll_to(self, xpath: str) -> None:
        """Bring an element to the top of what scrolls."""
        self._do(xpath, lambda x: self.browser.execute_script("arguments[0].scrollIntoView()", x))

    def find(self, xpath: str) -> WebElement:
        """Wait for the first element there that is shown."""
        return self._wait(
            lambda: next(filter(WebElement.is_displayed, self._list(xpath)), None), xpath
        )

    def press(self, text: str) -> None:
        """Click the first button that holds a text."""
        self.press_at(f"//button[contains(., '{text}')]")

    def press_at(self, xpath: str) -> None:
        """Click the first element there that is shown, once nothing lies over it."""
        self._do(xpath, WebElement.click)

    def replace_word(self, xpath: str, text: str) -> None:
        """Type a text in the place of a word of an editor."""
        self._do(xpath, lambda word: ActionChains(self.browser).double_click(word).perform())
        ActionChains(self.browser).send_keys(text).perform()

    def evaluate(self, expression: str) -> Any:
        """Return what a script's expression gives on the page."""
        return self.browser.execute_script(f"return {expression}")

    def launch(self, press: Callable[[], None]) -> str:
        """Do what launches a run, and return its id once it is there."""
        before = set(self._list_runs())
        press()
        return self._wait(lambda: next(iter(set(self._list_runs()) - before), None), "a new run")

    def follow(self, run: str, status: str) -> None:
        """Watch the page of a run until it has a status; fails if it ends with another."""
        self.open(f"/runs/{run}")
        self._wait(lambda: self._read_status(run) in ENDS, status, RUN)
        assert self._read_status(run) == status, self.read()

    def take_picture(self, name: str) -> None:
        """Write the page as it is shown for README and docs, if that was asked for."""
        if not self.takes_pictures:
            return
        time.sleep(1)  # what moves has come to rest
        shown = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        PICTURES.mkdir(exist_ok=True)
        path = PICTURES / f"{name}.png"
        shown.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size < LARGEST, f"{path} has {path.stat().st_size:,} bytes"

    def _do(self, xpath: str, act: Callable[[WebElement], object]) -> None:
        """Do something with an element, again where it was redrawn between finding and doing."""

        def find_and_act() -> bool:
            act(self.find(xpath))
            return True

        self._wait(find_and_act, xpath)

    def _list(self, xpath: str) -> list[WebElement]:
        return self.browser.find_elements(By.XPATH, xpath)

    def _list_runs(self) -> list[str]:
        query = {"query": "{runIdsOrError {... on RunIds {results}}}"}
        request = urllib.request.Request(
            f"{self.url}/graphql", json.dumps(query).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PAGE) as answer:
            ids: list[str] = json.load(answer)["data"]["runIdsOrError"]["results"]
        return ids

    def _read_status(self, run: str) -> str:
        found = re.search(rf"{run[:8]}\n(\w+)", self.read())
        return found[1] if found else ""

    def _wait(self, look: Callable[[], T | None], what: object, within: float = PAGE) -> T:
        """Return the first answer that is one; a page that is being redrawn is asked again."""
        until = time.monotonic() + within
        while True:
            problem = ""
            try:
                if found := look():
                    return found
            except WebDriverException as error:
                problem = error.msg or ""
            if time.monotonic() > until:
                page = f"{self.browser.current_url}\n{self.read()}"
                raise AssertionError(f"not within {within:.0f} s: {what}. {problem}\n{page}")
            time.sleep(0.2)
