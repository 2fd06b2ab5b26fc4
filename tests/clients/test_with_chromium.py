"""Chromium loading a page of 40 images, through fewer slots than it opens connections."""

import base64
import hashlib
import json
import re
import struct
import subprocess
import zlib

import pytest

from programs import proxy_url
from weir import limited

COUNT = 40
CONNECTIONS = 6  # that Chromium opens to one host

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--disable-dev-shm-usage", "--no-default-browser-check",
         "--password-store=basic",
         # Loopback addresses would go past the proxy.
         "--proxy-bypass-list=<-loopback>"]

PAGE = """<!DOCTYPE html>
<title>loading</title>
<link rel="icon" href="data:,">
{images}
<script>
addEventListener("load", async () => {{
    const loaded = []
    for (const image of document.images) {{
        const canvas = new OffscreenCanvas(image.naturalWidth || 1, image.naturalHeight || 1)
        const context = canvas.getContext("2d")
        context.drawImage(image, 0, 0)
        loaded.push([image.naturalWidth, image.naturalHeight, ...context.getImageData(0, 0, 1, 1).data])
    }}
    document.title = JSON.stringify(loaded)
}})
</script>
"""


def picture(number):
    """What is seen of image NUMBER: width, height, and the colour of its first point."""
    return [100 + number, 50 + number, 5 * number, 255 - 5 * number, 77, 255]


def png(width, height, red, green, blue, _):
    """A picture of one colour, not packed, so that it is long."""
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([red, green, blue]) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + part(b"IDAT", zlib.compress(rows, 0)) + part(b"IEND", b""))


def page_of_images():
    images = "\n".join(f'<img src="/image{number}">' for number in range(COUNT))
    files = {f"/image{number}": png(*picture(number)) for number in range(COUNT)}
    return {"/page.html": PAGE.format(images=images).encode(), **files}


def key_digest(certificate):
    """The SHA-256 of a certificate's public key, by which Chromium can be told to trust it."""
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"],
                         check=True, capture_output=True).stdout
    lines = [line for line in key.split(b"\n") if not line.startswith(b"-")]
    return base64.b64encode(hashlib.sha256(base64.b64decode(b"".join(lines))).digest()).decode()


@pytest.mark.parametrize("scheme, limit", [("http", 6), ("https", 6), ("https", 3)])
def test_a_page_of_images(start_weir, new_site, programs, tmp_path, authority, scheme, limit):
    weir = start_weir(limited(limit))
    site = new_site(page_of_images(), gated=lambda path: path.startswith("/image"))
    chromium = programs.start("chromium", *FLAGS, f"--user-data-dir={tmp_path / 'profile'}",
                              f"--proxy-server={proxy_url(weir)}", "--virtual-time-budget=60000",
                              "--ignore-certificate-errors-spki-list=" + key_digest(authority.certificate),
                              "--dump-dom", site.url("/page.html", scheme))
    site.open_when(weir, active=limit, queued=CONNECTIONS - limit)
    dom = programs.finish(chromium).decode()
    title = re.search("<title>(.*)</title>", dom)[1]
    assert title != "loading", dom
    assert json.loads(title) == [picture(number) for number in range(COUNT)]
    site.check(limit)
