"""Drive a real browser through the studio and the app, as a user would, and keep a screenshot of every step.

python -m scripts.browse FOLDER     # needs: pip install playwright; apt-get install chromium

It says what took how long, and fails when a page asks for an address other than its own.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from headstart.demo import demo_data
from headstart.progress import Progress

N_EACH = 60  # pictures of a class
BROWSER = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox"]}
FIT_S = 600
ANSWER_S = 120
NEW = "images/cell0245.png"  # a defective cell that is not in the zip
BY_HEART = "tell me a joke about computers, please, and then explain why it is funny"


def headstart(*arguments: object) -> list[str]:
    """The command line, in this Python."""
    return [sys.executable, "-m", "headstart.cli", *map(str, arguments)]


@contextmanager
def served(*arguments: object, **environment: str) -> Iterator[str]:
    """The address of a page that a verb serves, for as long as it is needed."""
    process = subprocess.Popen(
        headstart(*arguments, "--port", 0), stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the verb did not say where its page is"
        yield found.group()
    finally:
        process.terminate()
        process.wait(30)


class Visit:
    """One page in the browser: screenshots in order, requests that go elsewhere, errors in its console."""

    def __init__(self, browser: Any, folder: Path, name: str, **settings: Any) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900}, **settings)
        self.folder, self.name, self.n = folder, name, 0
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def shoot(self, what: str) -> None:
        """Keep a picture of the whole page."""
        self.n += 1
        self.page.screenshot(path=self.folder / f"{self.name}-{self.n:02d}-{what}.png", full_page=True)
        print(f"  {self.name}: {what}", flush=True)

    def say(self) -> int:
        """Print what went wrong; how many requests went elsewhere."""
        for error in dict.fromkeys(self.errors):
            print(f"  {self.name}, console: {error[:300]}")
        for address in dict.fromkeys(self.elsewhere):
            print(f"  {self.name} ASKED FOR {address}")
        return len(self.elsewhere)

    def _note(self, address: str) -> None:
        if not address.startswith(("http://127.0.0.1", "data:", "blob:")):
            self.elsewhere.append(address)


def cells(folder: Path) -> tuple[Path, Path]:
    """A zip of class folders of solar cells, and one picture that is not in it."""
    table, _ = demo_data("image", Progress())
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    packed = folder / "solar cells.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__MACOSX/solar cells/._x.png", b"junk")
        for label in ("defective", "functional"):
            own = [row["file"] for row in rows if row["label"] == label]
            for name in own[:N_EACH]:
                archive.write(table.parent / name, f"solar cells/{label}/{Path(name).name}")
    return packed, table.parent / NEW


def replace(page: Page, file: Path) -> None:
    """Take the file off that lies in the studio, and drop another."""
    page.get_by_label("Clear").first.click()
    page.get_by_text("What it takes").wait_for(timeout=ANSWER_S * 1000)
    page.locator("input[type=file]").first.set_input_files(file)


def choose(page: Page, column: str) -> None:
    """Name the column that is to be predicted."""
    page.get_by_label("Column to predict").click()
    page.get_by_role("option", name=column, exact=True).click()


def studio(browser: Any, folder: Path, work: Path) -> int:
    """Upload, fit, look, predict, take home; how many requests went elsewhere."""
    packed, new = cells(work)
    with served("studio", "--out", work / "runs") as address:
        visit = Visit(browser, folder, "studio")
        page = visit.page
        page.goto(address)
        page.get_by_text("What it takes").wait_for()
        visit.shoot("empty")
        wrong = work / "holiday.xlsx"
        wrong.write_bytes(b"PK")
        page.locator("input[type=file]").first.set_input_files(wrong)
        page.locator(".hs-problem").wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("wrong-file")
        table, label = demo_data("text", Progress())
        replace(page, table)
        page.get_by_text("train is learnt from").wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("table")
        choose(page, "text")
        page.get_by_text("cannot be both").wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("wrong-column")
        choose(page, label)
        page.get_by_text("train is learnt from").wait_for(timeout=ANSWER_S * 1000)
        page.get_by_role("button", name="Fit", exact=True).click()
        page.get_by_role("button", name="Stop").click(timeout=ANSWER_S * 1000)
        page.get_by_text("Stopped.").wait_for(timeout=FIT_S * 1000)
        visit.shoot("stopped")
        replace(page, packed)
        page.get_by_text("train is learnt from").wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("understood")
        start = time.monotonic()
        page.get_by_role("button", name="Fit", exact=True).click()
        page.locator(".hs-lines").wait_for(timeout=ANSWER_S * 1000)
        time.sleep(5)
        visit.shoot("fitting")
        page.get_by_text("Take the model home").wait_for(timeout=FIT_S * 1000)
        print(f"  fit: {time.monotonic() - start:.0f} s")
        visit.shoot("fitted")
        page.get_by_text("The whole report").click()
        time.sleep(3)
        visit.shoot("report")
        page.get_by_text("The whole report").click()
        page.locator("input[type=file]").last.set_input_files(new)
        page.locator(".hs-similar").wait_for(timeout=ANSWER_S * 1000)
        time.sleep(1)
        visit.shoot("tried")
        with page.expect_download(timeout=ANSWER_S * 1000) as download:
            page.get_by_text("Take the model home").click()
        home = work / "home.zip"
        download.value.save_as(home)
        elsewhere = visit.say()
    with zipfile.ZipFile(home) as archive:
        archive.extractall(work / "home")
    run = next((work / "home").rglob("headstart.json")).parent
    subprocess.run(headstart("predict", run, new), check=True)
    return elsewhere


def app(browser: Any, folder: Path, pictures: Path, questions: Path, work: Path) -> int:
    """Ask a model of pictures and a model of texts; how many requests went elsewhere."""
    _, new = cells(work)
    with served("app", questions, pictures, HEADSTART_TOKEN="") as address:
        visit = Visit(browser, folder, "app")
        page = visit.page
        page.goto(address)
        page.get_by_role("tab").first.wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("text-empty")
        page.get_by_role("textbox").first.fill(BY_HEART)
        page.get_by_role("button", name="Ask the model").first.click()
        page.locator(".hs-words").wait_for(timeout=ANSWER_S * 1000)
        time.sleep(1)
        visit.shoot("text-answer")
        page.get_by_text("The whole report").first.click()
        time.sleep(3)
        visit.shoot("text-report")
        page.get_by_role("tab").last.click()
        broken = work / "broken.png"
        broken.write_bytes(new.read_bytes()[:3000])
        page.locator("input[type=file]:visible, input[type=file]").last.set_input_files(broken)
        page.locator(".hs-problem").wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("picture-broken")
        page.locator("input[type=file]").last.set_input_files(new)
        page.locator(".hs-heat").wait_for(timeout=ANSWER_S * 1000)
        time.sleep(1)
        visit.shoot("picture-answer")
        page.emulate_media(color_scheme="dark")
        page.reload()
        page.get_by_role("tab").first.wait_for()
        page.get_by_role("textbox").first.fill(BY_HEART)
        page.get_by_role("button", name="Ask the model").first.click()
        page.locator(".hs-similar").first.wait_for(timeout=ANSWER_S * 1000)
        visit.shoot("dark")
        page.set_viewport_size({"width": 420, "height": 900})
        page.emulate_media(color_scheme="light")
        time.sleep(1)
        visit.shoot("narrow")
        elsewhere = visit.say()
    with served("app", questions, HEADSTART_TOKEN="sesame") as address:
        guest = Visit(browser, folder, "guest")
        refused = guest.page.request.get(address)
        assert refused.status == 401, f"without the password: {refused.status}"
        owner = Visit(browser, folder, "owner", http_credentials={"username": "me", "password": "sesame"})
        owner.page.goto(address)
        owner.page.get_by_role("textbox").first.fill(BY_HEART)
        owner.page.get_by_role("button", name="Ask the model").click()
        owner.page.locator(".hs-similar").wait_for(timeout=ANSWER_S * 1000)
        owner.shoot("with-the-password")
        return elsewhere + owner.say()


def probes(work: Path) -> tuple[Path, Path]:
    """A run on solar cells and a run on questions, each a probe: seconds."""
    packed, _ = cells(work)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(work / "unpacked")
    table, label = demo_data("text", Progress())
    pictures, questions = work / "solar-cells", work / "questions"
    for data, out in (((work / "unpacked" / "solar cells",), pictures), ((table, "--label", label), questions)):
        command = headstart("fit", *data, "--strategy", "probe", "--no-scratch", "--quiet", "--out", out)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return pictures, questions


def main() -> int:
    """Exit code 1 when a page asked for an address other than its own."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        work = Path(scratch)
        browser = playwright.chromium.launch(**BROWSER)
        elsewhere = app(browser, folder, *probes(work), work)
        elsewhere += studio(browser, folder, work)
        browser.close()
    print(f"{elsewhere} requests went elsewhere.")
    return 1 if elsewhere else 0


if __name__ == "__main__":
    sys.exit(main())
