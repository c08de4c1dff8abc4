"""A picture of the results page down to its first figures: python docs/picture.py PAGE PICTURE.

Needs Debian's chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH = 1280


def main(page: Path, picture: Path) -> None:
    chromium = shutil.which("chromium") or sys.exit("install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        tab.goto(page.resolve().as_uri())
        figures = tab.locator("#scores .figures").bounding_box()
        head = {"x": 0, "y": 0, "width": WIDTH, "height": figures["y"] + figures["height"] + 16}
        tab.screenshot(path=picture, clip=head, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:3]))
