"""Standard streams as they are found: closed, full, of another encoding, with nobody reading."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import convscope
from convscope.cli.terminal import replace_characters

PROGRAM = f"{sys.executable} -m convscope"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A bash script in which $convscope is the program."""
    source = str(Path(convscope.__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        ["bash", "-c", script.replace("$convscope", PROGRAM)],
        capture_output=True,
        env={**kept, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk", "koi8-r", "cp437", "ascii", "shift_jis", "utf-16"])
def test_help_in_any_encoding(encoding: str) -> None:
    done = shell("$convscope train --help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click makes ASCII UTF-8
    assert "--learning-rate" in text
    assert "?" not in text.replace("images?", "")


def test_what_an_encoding_lacks_is_written_plainly() -> None:
    names = "δ² × 2 – é … 猫 caf\udce9"
    with pytest.raises(UnicodeEncodeError) as raised:
        names.encode("ascii")
    problem = raised.value
    problem.start, problem.end = 0, len(names)
    assert replace_characters(problem) == ("delta2 x 2 - e ... ? caf\\xe9", len(names))
    with pytest.raises(UnicodeDecodeError, match="invalid"):
        replace_characters(UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"))


SAY = f"{sys.executable} -c 'from convscope.cli import terminal; terminal.prepare(); "


def test_names_of_files_that_are_no_utf8() -> None:
    done = shell(
        SAY + 'import sys; print(sys.argv[1]); print(terminal.json_text([sys.argv[1]]))\' $(printf "caf\\xe9")'
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b'caf\\xe9\n["caf\\udce9"]\n'


def test_json_stays_whole_in_any_encoding() -> None:
    script = SAY + "print(terminal.json_text([chr(0x732b)]))'"
    assert shell(script, PYTHONIOENCODING="latin-1").stdout == b'["\\u732b"]\n'
    assert shell(script, PYTHONIOENCODING="utf-8").stdout == '["猫"]\n'.encode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["train --help", "--version", "models"])
def test_a_reader_who_has_gone_is_no_trouble(command: str, unbuffered: str) -> None:
    script = f"(sleep 0.1; $convscope {command}; echo rc $? >&2) | true"
    assert shell(script, PYTHONUNBUFFERED=unbuffered).stderr == b"rc 141\n"


def test_a_reader_who_goes_away_among_many_lines() -> None:
    script = SAY + 'import sys\nfor line in range(10**6): print(line)\n\'; echo "rc $?" >&2) | head -1'
    done = shell("(" + script)
    assert (done.stdout, done.stderr) == (b"0\n", b"rc 141\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named(unbuffered: str) -> None:
    done = shell("$convscope train --help > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr == b"convscope: error: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0), ("2>&-", 0), ("2>/dev/full", 0)]
)
def test_closed_streams(streams: str, code: int) -> None:
    done = shell(f"$convscope train --help {streams}")
    assert (done.returncode, done.stderr) == (code, b"")


def test_an_error_keeps_its_code_where_it_cannot_be_told() -> None:
    assert [shell(f"$convscope nothing {streams}").returncode for streams in ("2>&-", "2>/dev/full", ">&-")] == [2] * 3


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    script = SAY + 'import os, sys; file = open(sys.argv[1], "w"); os.write(1, b"x"); assert file.fileno() > 2\''
    done = shell(f"{script} {tmp_path}/file >&-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "file").read_bytes() == b""
