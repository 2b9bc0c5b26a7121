"""The page as a user lives with it: keys, and what is to be seen."""

import json
import time
from collections.abc import Callable
from typing import Any

LONGEST = 20.0


class Page:
    """A tab with the page. Leaving it, no message of an error may be in its console but those of `expected` answers."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address, self.expected = driver, address, set[int]()

    def __enter__(self) -> "Page":
        self.open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What is under way ends with the page; what is told of it later would be found by the next test.
        self.driver.get("about:blank")
        found = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        if self.driver.window_handles[1:]:
            for handle in self.driver.window_handles[1:]:
                self.driver.switch_to.window(handle)
                self.driver.close()
            self.driver.switch_to.window(self.driver.window_handles[0])
        if kind is None:
            allowed = [f"status of {status} " for status in self.expected]
            left = [message for message in found if not any(each in message for each in allowed)]
            assert left == [], left

    def open(self) -> None:
        self.driver.get(self.address)
        self.wait(lambda: self.cells() and self.text("#path") and self.text("#name"))

    def open_with(self, script: str) -> None:
        """Open the page once more, with a script that runs before its own."""
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        self.driver.get(self.address)
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def wait(self, check: Callable[[], Any]) -> Any:
        """What a check returns as soon as it is true."""
        end = time.monotonic() + LONGEST
        while not (answer := check()):
            if time.monotonic() > end:
                raise AssertionError(f"not so after {LONGEST:.0f} s: {self.all_text()}")
            time.sleep(0.02)
        return answer

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def all_text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def text(self, selector: str) -> str:
        """The text of an element, or "" if it is not there or hidden."""
        script = (
            "const found = document.querySelector(arguments[0]); return found?.checkVisibility() ? found.innerText : ''"
        )
        return str(self.run(script, selector)).strip()

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)

    def value(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).value", selector))

    def cells(self) -> int:
        return int(self.run("return document.querySelectorAll('.cell:not([hidden])').length"))

    def tags(self) -> list[str]:
        return self.texts("#tags button")

    def path(self) -> str:
        return self.text("#path")

    def keys(self, *keys: str) -> None:
        """Press keys one after the other where the focus is; "Control+a" is one of them."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            *held, last = key.split("+") if len(key) > 1 else [key]
            chain = ActionChains(self.driver, duration=0)
            for each in held:
                chain = chain.key_down(getattr(Keys, each.upper()))
            chain = chain.send_keys(getattr(Keys, last.upper()) if len(last) > 1 else last)
            for each in held:
                chain = chain.key_up(getattr(Keys, each.upper()))
            chain.perform()

    def type(self, text: str) -> None:
        self.driver.switch_to.active_element.send_keys(text)

    def saved(self) -> None:
        """Wait until nothing is left to be saved."""
        self.wait(lambda: not self.text("#unsaved"))

    def choose(self, list_of: str, tag: str) -> None:
        """Type the letter over a chip."""
        self.wait(lambda: self.run("return document.body.classList.contains('choosing')"))
        find = """
        const chips = [...document.querySelectorAll(`#${arguments[0]} button`)];
        return chips.find((each) => each.dataset.tag === arguments[1]).dataset.letters;
        """
        self.keys(*self.run(find, list_of, tag))

    def requested(self) -> list[str]:
        """The addresses that the browser asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
