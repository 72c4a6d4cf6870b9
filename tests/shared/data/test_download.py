"""Databases are fetched whole, resumed and checked: against a publisher on this machine that breaks off and errs."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.config import REPO_ROOT
from shared.data import download as module
from shared.data import fetching
from shared.data.download import download, main
from shared.data.fetching import PIECE, DownloadConfig, DownloadError
from shared.data.publishers import parse_sums
from shared.errors import UserError
from tests.commands import start
from tests.shared.data.publisher import Publisher, publisher

NAME = "some-ecg/1.0"
ROOT = f"/files/{NAME}/"
FILES = {
    "RECORDS": b"a/1\n",
    "a/1.hea": b"1 12 500 5000\n",
    "a/1.dat": np.random.default_rng(0).bytes(300_000),
    "empty": b"",
    "with blank+.txt": b"x",
}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with publisher() as state:
        state.physionet(NAME, FILES)
        yield state


def config_of(there: Publisher, out: Path, **values: Any) -> DownloadConfig:
    given = {"publisher": "physionet", "name": NAME, "base": there.base, "wait_s": 0.01, **values}
    return DownloadConfig(out=out, **given)


def require_whole(out: Path, files: dict[str, bytes] = FILES) -> None:
    for path, data in files.items():
        assert (out / path).read_bytes() == data, path
    assert not list(out.rglob("*.part")) and not out.with_name(f".{out.name}.lock").exists()


def test_fetched_once(there: Publisher, tmp_path: Path) -> None:
    config = config_of(there, tmp_path / "db")
    outcome = download(config)
    require_whole(config.out)
    assert sorted(outcome["fetched"]) == sorted([*FILES, "SHA256SUMS.txt"]) and outcome["there"] == []
    assert set(parse_sums((config.out / "SHA256SUMS.txt").read_text())) == set(FILES)  # what the doctor checks by
    there.asked.clear()
    outcome = download(config)
    assert sorted(outcome["there"]) == sorted(FILES)
    assert set(there.asked) == {f"{ROOT}SHA256SUMS.txt"}


def test_a_broken_connection_goes_on_where_it_ended(there: Publisher, tmp_path: Path) -> None:
    there.breaks[f"{ROOT}a/1.dat"] = [7 * PIECE, 2 * PIECE + 1, 1, 0]  # of a piece that did not end, nothing counts
    config = config_of(there, tmp_path / "db")
    download(config)
    require_whole(config.out)
    asked = [line.partition(" from ")[2] for line in there.asked if line.startswith(f"{ROOT}a/1.dat")]
    assert asked == ["", *map(str, (7 * PIECE, 9 * PIECE, 9 * PIECE, 9 * PIECE))]


def test_a_later_call_goes_on(there: Publisher, tmp_path: Path) -> None:
    there.breaks[f"{ROOT}a/1.dat"] = [6 * PIECE, 0]
    config = config_of(there, tmp_path / "db", attempts=2)
    with pytest.raises(DownloadError, match=r"1 of 6 files could not be had:\n  a/1\.dat: .* in 2 attempts"):
        download(config)
    assert (config.out / "a" / "1.dat.part").stat().st_size == 6 * PIECE
    assert (config.out / "a" / "1.hea").is_file() and not (config.out / "a" / "1.dat").exists()
    download(config)
    require_whole(config.out)
    assert there.asked.count(f"{ROOT}a/1.dat from {6 * PIECE}") == 2


def test_a_part_of_another_release_is_no_beginning(
    there: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = config_of(there, tmp_path / "db")
    (config.out / "a").mkdir(parents=True)
    (config.out / "a" / "1.dat.part").write_bytes(b"old" * 1000)
    download(config)
    require_whole(config.out)
    assert "a/1.dat: its sha256 is" in capsys.readouterr().out


def test_a_part_that_is_whole_or_too_long(there: Publisher, tmp_path: Path) -> None:
    config = config_of(there, tmp_path / "db")
    (config.out / "a").mkdir(parents=True)
    (config.out / "a" / "1.dat.part").write_bytes(FILES["a/1.dat"])
    (config.out / "RECORDS.part").write_bytes(b"x" * 100)
    download(config)
    require_whole(config.out)


def test_a_server_without_ranges_sends_all_again(there: Publisher, tmp_path: Path) -> None:
    there.ranges = False
    there.breaks[f"{ROOT}a/1.dat"] = [100_000]
    config = config_of(there, tmp_path / "db")
    download(config)
    require_whole(config.out)


def test_a_wrong_byte_is_named_and_fetched_again_once(
    there: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    there.wrong[f"{ROOT}a/1.dat"] = 1
    config = config_of(there, tmp_path / "db")
    download(config)
    require_whole(config.out)
    assert re.search(
        r"a/1\.dat: its sha256 is \w{12}…, published is \w{12}…; it is fetched again", capsys.readouterr().out
    )
    shutil.rmtree(config.out)
    there.wrong[f"{ROOT}a/1.dat"] = 99
    there.asked.clear()
    with pytest.raises(DownloadError, match=r"a/1\.dat: its sha256 is \w{12}…, published is \w{12}…, twice"):
        download(config)
    assert there.asked.count(f"{ROOT}a/1.dat") == 2 and not (config.out / "a" / "1.dat").exists()
    assert (config.out / "a" / "1.hea").is_file()  # the others are whole


def test_a_damaged_file_is_replaced(there: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = config_of(there, tmp_path / "db")
    download(config)
    file = config.out / "a" / "1.dat"
    file.write_bytes(file.read_bytes()[:-1])
    assert sorted(download(config)["fetched"]) == ["SHA256SUMS.txt", "a/1.dat"]
    require_whole(config.out)
    assert "1.dat: its sha256 is" in capsys.readouterr().out


def test_passing_errors_are_tried_again_and_others_named(there: Publisher, tmp_path: Path) -> None:
    there.errors[f"{ROOT}a/1.hea"] = [503, 429, 500]
    there.errors[f"{ROOT}empty"] = [404]
    config = config_of(there, tmp_path / "db")
    with pytest.raises(
        DownloadError, match=r"1 of 6 files could not be had:\n  empty: http\S+ answers 404 Not Found\n"
    ):
        download(config)
    download(config)
    require_whole(config.out)


@pytest.mark.parametrize("path", ["SHA256SUMS.txt", "a/1.dat"])
def test_no_access_says_what_to_do(there: Publisher, tmp_path: Path, path: str) -> None:
    there.errors[ROOT + path] = [403] * 99
    with pytest.raises(
        UserError, match=r"wants an account with access to some-ecg/1\.0.*~/\.netrc: machine 127\.0\.0\.1"
    ):
        main(["publisher=physionet", f"name={NAME}", f"base={there.base}", f"out={tmp_path / 'db'}"])


def test_an_account_is_taken_from_netrc(there: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc, seen = tmp_path / "netrc", []
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    real = fetching.requests.Session.send

    def send(self: Any, request: Any, **options: Any) -> Any:
        seen.append(request.headers.get("Authorization"))
        return real(self, request, **options)

    monkeypatch.setattr(fetching.requests.Session, "send", send)
    download(config_of(there, tmp_path / "db", only=["RECORDS"]))
    assert seen and set(seen) == {"Basic bWU6c2VjcmV0"}


def test_only_some(there: Publisher, tmp_path: Path) -> None:
    config = config_of(there, tmp_path / "db", only=["a/*.hea", "RECORDS"])
    assert sorted(download(config)["fetched"]) == ["RECORDS", "a/1.hea"]
    with pytest.raises(DownloadError, match="only=b/\\* names none of the 6 files; they are called RECORDS"):
        download(config_of(there, tmp_path / "db", only=["b/*"]))


def test_zenodo_and_figshare_say_digest_and_size(there: Publisher, tmp_path: Path) -> None:
    files = {"exams.csv": b"exam_id\n1\n", "part 0.bin": FILES["a/1.dat"]}
    there.zenodo("records/12", files)
    there.figshare("collections/34", files)
    for name, root in (("records/12", "/records/12/files/"), ("collections/34", "/files/")):
        kind = "zenodo" if name.startswith("records") else "figshare"
        served = root + ("part 0.bin" if kind == "zenodo" else "1")
        there.breaks[served], there.wrong[served] = [PIECE], 0
        config = config_of(there, tmp_path / kind, publisher=kind, name=name)
        assert sorted(download(config)["fetched"]) == sorted(files)
        require_whole(config.out, files)
        assert set(parse_sums((config.out / "MD5SUMS").read_text())) == set(files)  # what the doctor checks by
        assert f"{served} from {PIECE}" in there.asked
        there.asked.clear()
        assert len(download(config)["there"]) == 2 and all(
            "file" not in line or "/articles/" in line for line in there.asked
        )


def test_a_digest_known_beforehand_counts(there: Publisher, tmp_path: Path) -> None:
    there.zenodo("records/12", {"exams.csv": b"exam_id\n"})
    values = {"publisher": "zenodo", "name": "records/12"}
    with pytest.raises(DownloadError, match=r"its md5 is .*, published is 0107516d3f63…, twice"):
        download(config_of(there, tmp_path / "a", sums=["exams.csv:0107516d3f63864498fb77d15799cc95"], **values))
    with pytest.raises(DownloadError, match="sums: exam.csv is no digest of a file that zenodo lists"):
        download(config_of(there, tmp_path / "b", sums=["exam.csv:0107516d3f63864498fb77d15799cc95"], **values))


def test_archives_are_unpacked_once(there: Publisher, tmp_path: Path) -> None:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("exams_part0.hdf5", b"h" * 1000)
    with tarfile.open(fileobj=tarred, mode="w") as tar:  # of SPH: an uncompressed tar, whatever its name says
        entry = tarfile.TarInfo("records/A00001.h5")
        entry.size = 10
        tar.addfile(entry, io.BytesIO(b"0123456789"))
    files = {"exams_part0.zip": zipped.getvalue(), "records.tar.gz": tarred.getvalue(), "exams.csv": b"a"}
    there.zenodo("records/12", files)
    config = config_of(there, tmp_path / "db", publisher="zenodo", name="records/12", unpack=True)
    download(config)
    unpacked = config.out / "exams_part0.hdf5"
    assert unpacked.read_bytes() == b"h" * 1000 and (config.out / "records" / "A00001.h5").read_bytes() == b"0123456789"
    before = unpacked.stat().st_mtime_ns
    download(config)
    assert unpacked.stat().st_mtime_ns == before
    unpacked.write_bytes(b"h" * 10)
    download(config)
    assert unpacked.read_bytes() == b"h" * 1000


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside"])
def test_no_file_lies_outside(there: Publisher, tmp_path: Path, path: str) -> None:
    there.physionet(NAME, {path: b"x"})
    with pytest.raises(UserError, match="would lie outside the folder"):
        download(config_of(there, tmp_path / "db"))
    assert not list(tmp_path.rglob("outside"))


def test_no_listing_no_room_no_network(there: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there.files[f"{ROOT}SHA256SUMS.txt"] = b"<html>moved</html>"
    with pytest.raises(UserError, match=r"SHA256SUMS\.txt names no file"):
        download(config_of(there, tmp_path / "db"))
    there.files["/api/records/12"] = b'{"id": 12}'
    with pytest.raises(UserError, match="zenodo gave no list of the files of records/12"):
        download(config_of(there, tmp_path / "db", publisher="zenodo", name="records/12"))
    there.zenodo("records/12", {"exams.csv": b"exam_id\n"})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(DownloadError, match=r"0\.0 GB are to come, 0\.0 GB are free"):
        download(config_of(there, tmp_path / "db", publisher="zenodo", name="records/12"))
    with pytest.raises(DownloadError, match=r"could not be read in 2 attempts .*HTTPS_PROXY"):
        download(config_of(there, tmp_path / "db", base="http://127.0.0.1:9", attempts=2))


@pytest.mark.parametrize("script", sorted((REPO_ROOT / "scripts" / "data").glob("download_*.sh")), ids=lambda p: p.stem)
def test_scripts_name_what_they_fetch(
    script: Path, there: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Each starts the program with a publisher, a name and a place, and takes a mirror and another place."""
    command = f"bash scripts/data/{script.name} out={tmp_path / 'db'} base={there.base}"
    (tmp_path / "stand_in").mkdir()
    ((option, program, *given),) = start(command, REPO_ROOT, tmp_path / "stand_in")
    assert (option, program) == ("-m", "shared.data.download")
    facts = dict(entry.split("=", 1) for entry in given)
    yaml = REPO_ROOT / "configs" / "data" / f"{script.stem.removeprefix('download_')}.yaml"
    if yaml.is_file():  # so that preparing finds what was fetched
        (place,) = re.findall(r" out=(data/\S+)", script.read_text())
        assert re.search(rf"\n(root|plus): {place}\n", yaml.read_text())
    files = {"exams.csv": b"exam_id\n", "metadata.csv": b"ECG_ID\n"}
    getattr(there, facts["publisher"])(facts["name"], files)
    main([entry for entry in given if not entry.startswith("sums=")])
    require_whole(tmp_path / "db", files)
    assert f"{tmp_path / 'db'} is whole: " in capsys.readouterr().out


def test_a_script_runs_to_its_end(there: Publisher, tmp_path: Path) -> None:
    there.physionet("ludb/1.0.1", {"ludb.csv": b"ID", "data/1.hea": b"1 12 500 5000"})
    command = ["bash", "scripts/data/download_ludb.sh", f"out={tmp_path / 'db'}", f"base={there.base}", "only=*.csv"]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    require_whole(tmp_path / "db", {"ludb.csv": b"ID"})
    assert "is whole: 1 files" in done.stdout and not (tmp_path / "db" / "data").exists()
