"""The page in a real browser. Skipped if there is no Chromium or Chrome with its driver."""

import shutil

import pytest
from classifier_fixtures import fitted
from serving_fixtures import serving

from skxmc import LightXMLEnsemble

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def server():
    members = [("first", fitted("direct")), ("<b>second", fitted())]
    with serving(LightXMLEnsemble.from_fitted(members)) as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def page(browser, server):
    browser.get(server.url)
    return Page(browser)


class Page:
    """The page as a user sees it."""

    def __init__(self, browser):
        self.browser = browser
        self.wait_for("h1", "tiny")

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def words(self, selector):
        return [element.text for element in self.all(selector)]

    def wait_for(self, selector, words):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 30).until(lambda _: words in " ".join(self.words(selector)))

    def type(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)


def test_page_by_keyboard_shows_scores_bars_and_reasons(page, server):
    from selenium.webdriver.common.keys import Keys

    page.type(Keys.TAB)
    page.type("bife bemo", Keys.TAB, "\b3", Keys.TAB)
    page.type(Keys.ENTER)
    page.wait_for("[role=status]", "3 labels in ")
    (expected,) = server.predict(["bife bemo"], 3, True)
    found = page.all("#labels > li")
    assert len(found) == 3
    for item, label in zip(found, expected, strict=True):
        name, score = item.find_elements("css selector", ":scope > .line > span")
        assert (name.text, score.text) == (str(label["label"]), f"{label['score']:.3f}")
        track, bar = item.find_elements("css selector", ":scope > .track, :scope > .track > div")
        share = bar.rect["width"] / track.rect["width"]
        assert share == pytest.approx(label["score"], abs=0.01)
    first, second = (item.find_element("css selector", "details") for item in found[:2])
    members = expected[0]["why"]["members"]
    assert list(members) == ["first", "<b>second"]
    assert first.text.splitlines() == [
        "Why",
        "Words, and what the score loses without them:",
        *(
            shown
            for word in expected[0]["why"]["words"]
            for shown in (word["word"], f"{word['effect']:+.3f}")
        ),
        "Its score by each member of the ensemble:",
        *(words for name, score in members.items() for words in (name, f"{score:.3f}")),
    ]
    assert second.text == "Why"
    second.find_element("css selector", "summary").send_keys(Keys.ENTER)
    assert "Its score by each member" in second.text


def test_page_shows_errors_in_words_and_recovers(page):
    page.browser.execute_script("document.getElementById('form').noValidate = true")
    box, k, button = page.all("#text, #k, #submit")
    box.send_keys("bife")
    k.clear()
    k.send_keys("31")
    button.click()
    page.wait_for("[role=alert]", "k is 31, but there are only 30 labels. Lower k.")
    assert not page.all("#section")[0].is_displayed()
    k.clear()
    k.send_keys("1")
    button.click()
    page.wait_for("[role=status]", "1 label in ")
    assert page.words("[role=alert]") == [""]
    page.browser.execute_script("window.fetch = () => Promise.reject(new TypeError('gone'))")
    button.click()
    page.wait_for("[role=alert]", "The server does not answer. Start it again, then repeat.")


def test_page_has_a_name_for_each_control_and_follows_the_color_scheme(page):
    controls = page.all("textarea, input, button")
    assert [control.accessible_name for control in controls] == ["Text", "Labels", "Predict"]
    colors = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        colors.append(page.all("body")[0].value_of_css_property("background-color"))
    assert colors == ["rgba(255, 255, 255, 1)", "rgba(20, 24, 29, 1)"]
