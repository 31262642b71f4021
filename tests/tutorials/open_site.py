"""Open every page of the built site in a browser without a window, and look for what is broken.

    python tests/tutorials/open_site.py FOLDER

FOLDER is what sphinx-build wrote. Fails on errors and warnings in the console, on a file of the
site that is not there, on pictures that show nothing, and on links inside the site that lead
nowhere: to a page, or to a place in it. Files of other sites (MathJax) cannot be had where there is
no network; the last line counts them. Without a Chromium nothing is looked at, and it says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import Browser, find

#: Kinds of console messages that complain of nothing: the theme tells what it does.
CHAT = ("log", "info", "debug")
#: What a page holds: where its links lead, the names of its places, pictures that show nothing.
LOOK = """(() => ({
    links: Array.from(document.querySelectorAll('a[href]'), a => a.href),
    places: Array.from(document.querySelectorAll('[id], a[name]'), e => e.id || e.name),
    blank: Array.from(document.images).filter(i => !(i.complete && i.naturalWidth)).map(i => i.src),
    words: document.querySelector('main, body').innerText.trim().length,
}))()"""


@dataclass
class Page:
    """What the browser found on a page."""

    links: list[str]
    places: set[str]
    faults: list[str]
    unreached: set[str]  # files of other sites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    if not paths:
        sys.exit(f"no page in {folder}: build the site first")
    program = find()
    if program is None:
        print(f"no chromium is installed: the {len(paths)} pages of the site are not looked at")
        return
    browser = Browser(program)
    try:
        pages = {path: looked_at(browser, path) for path in paths}
    finally:
        browser.close()
    faults = [
        f"{path.relative_to(folder)}: {fault}"
        for path, page in pages.items()
        for fault in (*page.faults, *broken_links(path, pages))
    ]
    print("\n".join(faults))
    links, others = sum(len(p.links) for p in pages.values()), set()
    for page in pages.values():
        others |= page.unreached
    print(
        f"{len(pages)} pages, {links} links: {len(faults)} faults; "
        f"{len(others)} files of other sites were not to be had"
    )
    sys.exit(bool(faults))


def looked_at(browser: Browser, path: Path) -> Page:
    """Open a page and return what is on it, and what is wrong with it."""
    browser.said.clear()
    browser.asked.clear()
    browser.open(path, width=1280)
    assert browser.value("location.href") == path.as_uri()
    found = browser.value(LOOK)
    others = {url for url in browser.asked if url.startswith(("http:", "https:"))}
    said = [line for line in browser.said if json.loads(line).get("type") not in CHAT]
    told = [line for line in said if not of_another_site(line, others)]
    faults = told + [f"shows nothing for the picture {source}" for source in found["blank"]]
    faults += [] if found["words"] else ["is empty"]
    unreached = others if len(told) < len(said) else set()
    return Page(found["links"], set(found["places"]), faults, unreached)


def of_another_site(said: str, others: set[str]) -> bool:
    """Whether a message only tells that the network could not be reached for such a file."""
    told = json.loads(said)
    if "errorText" in told:  # of Network.loadingFailed, which does not name the address
        return told["errorText"] != "net::ERR_FILE_NOT_FOUND" and bool(others)
    entry = told.get("entry", {})
    return entry.get("source") == "network" and entry.get("url") in others


def broken_links(path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for link in sorted(set(pages[path].links)):
        address, place = urldefrag(link)
        if not address.startswith("file:"):
            continue
        target = Path(unquote(address.removeprefix("file://")))
        if target not in pages:
            if not target.is_file():
                yield f"links to {target}, which is not there"
        elif place and unquote(place) not in pages[target].places:
            yield f"links to {target.name}#{place}, a place that is not there"


if __name__ == "__main__":
    main()
