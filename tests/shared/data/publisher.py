"""A publisher on this machine: HTTP with ranges, which breaks off, errs, or sends a wrong byte when told to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Publisher:
    """What is published, and what goes wrong.

    Attributes:
        files: path of an address → bytes.
        breaks: path → how many bytes are sent until the connection ends, of each answer that is still to break.
        wrong: path → how many answers more have a wrong last byte.
        errors: path → HTTP statuses of the next answers.
        ranges: whether a part can be asked for.
        asked: `path` or `path from BYTE`, in order.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: dict[str, list[int]] = {}
        self.wrong: Counter[str] = Counter()
        self.errors: dict[str, list[int]] = {}
        self.ranges = True
        self.asked: list[str] = []
        self.base = ""

    def physionet(self, name: str, files: dict[str, bytes]) -> None:
        """Publish a project with its list of checksums."""
        root = f"/files/{name}/"
        sums = "".join(f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items())
        self.files |= {root + path: data for path, data in {**files, "SHA256SUMS.txt": sums.encode()}.items()}

    def zenodo(self, name: str, files: dict[str, bytes]) -> None:
        """Publish a record."""
        number = int(name.rpartition("/")[2])
        listed = [
            {"key": key, "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"}
            for key, data in files.items()
        ]
        self.files[f"/api/{name}"] = json.dumps({"id": number, "files": listed}).encode()
        self.files |= {f"/records/{number}/files/{key}": data for key, data in files.items()}

    def figshare(self, name: str, files: dict[str, bytes]) -> None:
        """Publish a collection of one article a file."""
        self.files[f"/v2/{name}/articles"] = json.dumps([{"id": i} for i in range(len(files))]).encode()
        for i, (key, data) in enumerate(files.items()):
            url = f"https://ndownloader.figshare.com/files/{i}"
            md5 = hashlib.md5(data).hexdigest()
            entry = {"name": key, "size": len(data), "download_url": url, "computed_md5": md5, "is_link_only": False}
            self.files |= {f"/v2/articles/{i}/files": json.dumps([entry]).encode(), f"/files/{i}": data}


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A running publisher; `base` is where it is."""
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            state.asked.append(path + (f" from {start[1]}" if start else ""))
            if state.errors.get(path):
                self.answer(state.errors[path].pop(0), b"")
                return
            if path not in state.files:
                self.answer(404, b"")
                return
            data = state.files[path]
            if state.wrong[path] > 0 and data:
                state.wrong[path] -= 1
                data = data[:-1] + bytes([data[-1] ^ 1])
            begin = int(start[1]) if start and state.ranges else 0
            if begin >= len(data) > 0:
                self.answer(416, b"")
                return
            self.answer(206 if begin else 200, data[begin:], state.breaks.get(path))

        def answer(self, status: int, data: bytes, breaks: list[int] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if breaks:
                self.wfile.write(data[: breaks.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
