from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convscope.data import download
from convscope.data.catalog import Remote
from convscope.errors import DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; notes the Range of each request; breaks off after ``cut`` bytes, ``cuts`` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut, self.cuts, self.knows_ranges = 0, 0, True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path[1:])
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.knows_ranges else 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        body = content[first:]
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: self.server.cut]
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("CONVSCOPE_OFFLINE")
    with Server() as running:
        running.files["file.bin"] = CONTENT
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(*urls: str, checksum: str = MD5) -> Remote:
    return Remote("file.bin", urls, checksum)


def test_a_file_arrives_whole_and_its_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = download.fetch(remote(server.url("file.bin")), tmp_path / "new", lambda *news: told.append(news))
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]
    assert told[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert download.fetch(remote("http://127.0.0.1:1/x"), tmp_path / "new") == path  # there already


def test_a_cut_connection_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cut, server.cuts = 300_000, 3
    assert download.fetch(remote(server.url("file.bin")), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_an_earlier_run_left_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert download.fetch(remote(server.url("file.bin")), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    assert download.fetch(remote(server.url("file.bin")), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"more"])
def test_left_overs_of_another_file_are_dropped(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(left)
    assert download.fetch(remote(server.url("file.bin")), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] is None


def test_mirrors_are_tried_in_order(server: Server, tmp_path: Path) -> None:
    server.files["wrong.bin"] = CONTENT[::-1]
    urls = (server.url("gone.bin"), server.url("wrong.bin"), server.url("file.bin"))
    assert download.fetch(remote(*urls), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["file.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(
        DataError, match=rf"file\.bin: download failed: .*md5 checksum of file\.bin is .*published is {MD5[4:]}"
    ):
        download.fetch(remote(server.url("file.bin")), tmp_path)
    assert list(tmp_path.iterdir()) == []
    sha = "sha256:" + hashlib.sha256(server.files["file.bin"]).hexdigest()
    assert download.fetch(remote(server.url("file.bin"), checksum=sha), tmp_path).is_file()


def test_not_found(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"download failed: http.*gone\.bin: HTTP status 404"):
        download.fetch(remote(server.url("gone.bin")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONVSCOPE_OFFLINE")
    missing = remote("http://127.0.0.1:1/there/file.bin")
    with pytest.raises(
        DataError, match=r"set is not complete \(download failed: .*no connection \(.*refused.*\)\)\. "
        rf"Put file\.bin into the folder {tmp_path}; published at http://127\.0\.0\.1:1/there",
    ):  # fmt: skip
        download.obtain("set", [missing], tmp_path)
    monkeypatch.setenv("CONVSCOPE_OFFLINE", "1")
    with pytest.raises(DataError, match="downloading is switched off"):
        download.obtain("set", [missing], tmp_path)
    with pytest.raises(DataError, match="downloading is switched off"):
        download.obtain("set", [missing], tmp_path, download=False)


def test_a_connection_that_always_breaks_is_given_up_and_kept_for_later(server: Server, tmp_path: Path) -> None:
    server.cut, server.cuts = 0, 100
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:500])
    with pytest.raises(DataError, match="no connection"):
        download.fetch(remote(server.url("file.bin")), tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:500]
    assert len(server.ranges) == 3


def test_a_read_only_folder_and_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DataError, match=r"file\.bin: cannot be written: read-only folder"):
            download.fetch(remote(server.url("file.bin")), tmp_path / "new")
    finally:
        tmp_path.chmod(0o755)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_request", full)
    with pytest.raises(DataError, match=r"file\.bin: cannot be written: No space left on device"):
        download.fetch(remote(server.url("file.bin")), tmp_path)


def tar_of(**members: bytes | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))
    return buffer.getvalue()


def test_an_archive_is_fetched_checked_and_unpacked(server: Server, tmp_path: Path) -> None:
    content = tar_of(**{"inner/a.bin": b"a" * 1000, "inner/b.bin": b"b"})
    server.files["set.tar.gz"] = content
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    wanted = Remote("set.tar.gz", (server.url("set.tar.gz"),), checksum, ("inner/a.bin",), unpack=True)
    download.obtain("set", [wanted], tmp_path)
    assert (tmp_path / "inner" / "a.bin").read_bytes() == b"a" * 1000
    assert sorted(path.name for path in (tmp_path / "inner").iterdir()) == ["a.bin", "b.bin"]
    before = len(server.ranges)
    download.obtain("set", [wanted], tmp_path)
    assert len(server.ranges) == before


def test_an_archive_put_there_by_hand_is_checked(tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(tar_of(a=b"a"))
    wanted = Remote("set.tar.gz", (), "md5:00", ("a",), unpack=True)
    with pytest.raises(DataError, match=r"md5 checksum of set\.tar\.gz is .*published is 00"):
        download.obtain("set", [wanted], tmp_path)
    assert (tmp_path / "set.tar.gz").is_file()
    download.obtain("set", [Remote("set.tar.gz", (), "", ("a",), unpack=True)], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"a"


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../evil": b"x"}, r"member '\.\./evil' would land outside the folder"),
        ({"/etc/evil": b"x"}, "would land outside the folder"),
        ({"a/../../evil": b"x"}, "would land outside the folder"),
        ({"link": link("link", "/etc")}, "member 'link' is not a regular file"),
    ],
)
def test_archives_that_reach_outside_are_refused(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "bad.tar.gz").write_bytes(tar_of(**members))
    with pytest.raises(DataError, match=message):
        download.unpack(tmp_path / "bad.tar.gz", tmp_path / "set")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar.gz", "set"]


def test_a_damaged_archive(tmp_path: Path) -> None:
    content = tar_of(a=bytes(range(256)) * 100)
    (tmp_path / "bad.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"bad\.tar\.gz: damaged archive"):
        download.unpack(tmp_path / "bad.tar.gz", tmp_path / "set")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "bad.tar.gz"]


def test_a_host_that_does_not_answer_is_asked_and_named_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONVSCOPE_OFFLINE")
    asked: list[str] = []
    request = download._request

    def counted(url: str, *others: object) -> None:
        asked.append(url)
        request(url, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "_request", counted)
    files = [dataclasses.replace(remote(f"http://127.0.0.1:1/{name}"), name=name) for name in ("one", "two", "three")]
    with pytest.raises(DataError, match="Put one, two, three into") as caught:
        download.obtain("set", files, tmp_path)
    assert asked == ["http://127.0.0.1:1/one"]
    assert caught.value.problem.count("127.0.0.1:1: no connection") == 1
