"""Hooks that mkdocs runs when it builds the documentation.

Links from a page into the repository, such as ``../scripts/demo.sh``, cannot be followed on a site: they become the
path as text, and a warning, which fails a strict build, if the target does not exist. The troubleshooting page gets the
table of every message that the program can show.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from list_messages import messages, table

ROOT = Path(__file__).parent.parent
EVERY_MESSAGE = "<!-- every message -->"
_INTO_THE_REPOSITORY = re.compile(r"(?<!!)\[(?P<words>[^\]]+)\]\((?P<target>(?:\.\./)+[^)#:]+)\)")
_log = logging.getLogger("mkdocs.hooks.documentation")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links to the repository by paths, and insert the messages."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def in_words(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return link[0]
        if not target.exists():
            _log.warning("%s: there is no %s", page.file.src_uri, link["target"])
        path = f"`{target.relative_to(ROOT).as_posix()}`"
        words = link["words"]
        return path if words.strip("`/") in path else f"{words} ({path})"

    return _INTO_THE_REPOSITORY.sub(in_words, markdown).replace(EVERY_MESSAGE, table(messages(ROOT)))
