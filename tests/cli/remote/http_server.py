"""A web server with range requests that can be busy, broken or locked: ``python http_server.py FOLDER``.

It prints its port. ``/busy/NAME`` answers every other request with 503, ``/broken/NAME`` fails for all of the second
half of the file, ``/locked/NAME`` wants the user ``reader`` with the password ``pa55word``, ``/whole/NAME`` gives no
part of a file.
"""

import base64
import re
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
LOGIN = "Basic " + base64.b64encode(b"reader:pa55word").decode()
asked_before: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        *mode, name = self.path.split("?")[0].strip("/").split("/")
        file = FOLDER / name
        if not name or not file.is_file():
            return self.empty(404)
        asked_before[name] += 1
        if mode == ["busy"] and asked_before[name] % 2:
            return self.empty(503)
        if mode == ["locked"] and self.headers.get("Authorization") != LOGIN:
            return self.empty(401)
        data = file.read_bytes()
        asked = mode != ["whole"] and re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data) - 1)
        part = data[start : end + 1]
        if mode == ["broken"] and asked and end > len(data) // 2:
            return self.empty(500)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        if mode != ["whole"]:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)
        return None

    def empty(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
