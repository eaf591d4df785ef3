"""A headless Chromium, and results of three scans with their pages."""

from __future__ import annotations

import json
import shutil

import pytest

from scripts.page import main
from tests.finished import write_result

NAMES = ("first", 'sec<img src=x onerror="window.hit=1">ond', "third")
WINDOW = "--window-size=1200,900"


@pytest.fixture(scope="session")
def _driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if not (browser and chromedriver):
        pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Containers: root has no sandbox, and /dev/shm is small. No test looks at a page that is not its own.
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", WINDOW, profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(chromedriver))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


class Browser:
    """A page that is open."""

    def __init__(self, driver, downloads):
        self.driver = driver
        self.downloads = downloads

    def open(self, path):
        self.driver.get(path.as_uri())
        self.wait("document.body.dataset.ready === 'true'")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda _: self.run(condition))

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def choose(self, selector, option):
        """Choose an option of a list by its text, or set a slider."""
        script = """
            const [element, option] = arguments;
            const found = [...(element.options || [])].find((one) => one.text === option);
            element.value = found ? found.value : option;
            element.dispatchEvent(new Event("input"));
            element.dispatchEvent(new Event("change"));
        """
        self.driver.execute_script(script, self.find(selector), option)

    def add(self, tag, **properties):
        """Put an element into the page."""
        script = "document.body.append(Object.assign(document.createElement(arguments[0]), arguments[1]))"
        self.driver.execute_script(script, tag, properties)

    def text(self, selector):
        return self.find(selector).text

    def press(self, *keys, on="body"):
        self.find(on).send_keys(*keys)

    def click_at(self, selector, across, down):
        """Click at a share of an element's width and height."""
        from selenium.webdriver import ActionChains

        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        size = element.size
        dx, dy = round((across - 0.5) * size["width"]), round((down - 0.5) * size["height"])
        ActionChains(self.driver).move_to_element_with_offset(element, dx, dy).click().perform()

    def exported(self):
        """Press the button that exports and return the rows of the file."""
        path = self.downloads / "ratings.tsv"
        path.unlink(missing_ok=True)
        self.find("#export").click()
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda _: path.is_file())
        return path, [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]

    def requested(self):
        """Return the addresses that were asked for since this was last called."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def browser(_driver, tmp_path):
    """A browser without marks of other tests."""
    _driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    _driver.get((tmp_path / "..").resolve().as_uri())
    _driver.execute_script("localStorage.clear(); sessionStorage.clear()")
    made = Browser(_driver, tmp_path)
    made.requested()
    made.complaints()
    return made


@pytest.fixture(scope="session")
def results(_driver, tmp_path_factory):
    """Results of three scans, one of an evil name, with their pages."""
    root = tmp_path_factory.mktemp("browser")
    for index, name in enumerate(NAMES):
        write_result(root / "out", root / "scans", name, 0.03 * index)
    assert main([str(root / "out"), "--scans", str(root / "scans")]) == 0
    return root / "out"
