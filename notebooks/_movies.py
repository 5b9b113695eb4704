"""Movies in stored notebooks: a page of 1.4 MB, most of it the script that draws, takes half a megabyte compressed.

A browser unpacks it. Code hosts run no script of a notebook, and show an empty frame.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from html import unescape

PLAIN = re.compile(r'<iframe class="movie"([^>]*?) srcdoc="([^"]*)"></iframe>')
PACKED = re.compile(
    r'<iframe id="movie-\w+" class="movie"([^>]*)></iframe><script>.*?\("movie-\w+", "([\w+/=]*)"\)</script>', re.S
)
UNPACK = """(async (id, packed) => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const page = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.getElementById(id).srcdoc = await new Response(page).text();
})"""


def packed(html: str) -> str:
    """Return HTML whose movies are compressed."""

    def smaller(movie: re.Match[str]) -> str:
        page = gzip.compress(unescape(movie[2]).encode(), mtime=0)
        name, data = f"movie-{hashlib.sha1(page).hexdigest()[:8]}", base64.b64encode(page).decode("ascii")
        return f'<iframe id="{name}" class="movie"{movie[1]}></iframe><script>{UNPACK}("{name}", "{data}")</script>'

    return PLAIN.sub(smaller, html)


def unpacked(html: str) -> list[tuple[str, str]]:
    """Return the movies of HTML that ``packed`` made: attributes of the frame, and the page in it."""
    return [(each[1], gzip.decompress(base64.b64decode(each[2])).decode()) for each in PACKED.finditer(html)]
