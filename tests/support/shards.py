"""Tar shards for tests, and a server on loopback that gives parts of them, as an object store does."""

from __future__ import annotations

import io
import tarfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image


def png(level: int) -> bytes:
    """A picture that is known by its red."""
    written = io.BytesIO()
    Image.new("RGB", (5, 4), (level, 0, 255 - level)).save(written, "PNG")
    return written.getvalue()


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar file with these members."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def of_class_folders(root: Path, out: Path, *, per_shard: int) -> Path:
    """Shards of a data set of class folders, in the layout of ImageNet's; the images of a shard are of all classes."""
    classes = sorted(folder.name for folder in (root / "train").iterdir())
    out.mkdir()
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    for split in ("train", "val"):
        images = sorted((root / split).glob("*/*"), key=lambda path: path.name)
        for number, first in enumerate(range(0, len(images), per_shard)):
            members = {}
            for path in images[first : first + per_shard]:
                members[f"{path.parent.name}_{path.stem}/{path.name}"] = path.read_bytes()
                members[f"{path.parent.name}_{path.stem}/{path.stem}.cls"] = b"%d\n" % classes.index(path.parent.name)
            write(out / f"{split}-{number:03d}.tar", members)
    return out


class Server(ThreadingHTTPServer):
    """Server of a folder. whole: ignore ranges; broken: statuses of the next answers; asked: all ranges asked for."""

    daemon_threads = True

    def __init__(self, folder: Path, *, whole: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.whole = folder, whole
        self.broken: deque[int] = deque()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"


@contextmanager
def served(folder: Path, *, whole: bool = False) -> Iterator[Server]:
    """Serve the files of a folder on loopback."""
    with Server(folder, whole=whole) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the acknowledgement of its headers

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        path = self.server.folder / self.path.removeprefix("/data/")
        status, content = 200, b""
        asked = self.headers.get("Range")
        if self.server.broken:
            status = self.server.broken.popleft()
        elif not path.is_file():
            status = 404
        elif asked and not self.server.whole:
            self.server.asked.append(asked)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            with path.open("rb") as file:
                file.seek(int(first))
                status, content = 206, file.read(int(last) - int(first) + 1)
        else:
            content = path.read_bytes()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
