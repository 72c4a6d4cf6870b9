"""The doctor finds what is wrong with a download, names it with what to do, and is silent on one that is whole."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from shared.config import REPO_ROOT
from shared.data import databases, doctor, probe
from shared.data.databases import DATABASES, recognise
from shared.data.doctor import main
from shared.data.sources import SOURCES
from shared.data.wholeness import bytes_wanted
from shared.errors import UserError
from shared.files import digest
from tests.golden import real_data
from tests.shared.data.wfdb_records import draw_ecg, write_record

STATEMENTS = ",description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass\nNORM,normal,1.0,,,NORM,NORM\n"
HEADER = "ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A PTB-XL of six records as PhysioNet publishes it, the records of 100 Hz left out."""
    root = tmp_path / "ptb-xl"
    lines = []
    for i in range(1, 7):
        path = f"records500/{i // 4:05d}/{i:05d}_hr"
        write_record(root / path.rpartition("/")[0], path.rpartition("/")[2], draw_ecg(i, 5000), fs=500)
        lines.append(
            f"{i},{i}.0,50.0,1,\"{{'NORM': 100.0}}\",{i},{path.replace('500', '100').replace('hr', 'lr')},{path}\n"
        )
    (root / "ptbxl_database.csv").write_text(HEADER + "".join(lines))
    (root / "scp_statements.csv").write_text(STATEMENTS)
    (root / "RECORDS").write_text("".join(f"{line.strip().split(',')[-1]}\n" for line in lines))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(root)}\n" for path in files]
    sums.append(f"{'0' * 64} records100/00000/00001_lr.dat\n")
    (root / "SHA256SUMS.txt").write_text("".join(sums))
    return root


def call(capsys: pytest.CaptureFixture, *argv: str) -> tuple[list[str], int]:
    """Lines that the doctor prints, and its exit code."""
    code = 0
    try:
        main(argv)
    except SystemExit as stopped:
        code = int(str(stopped.code))
    return capsys.readouterr().out.splitlines(), code


def wrong(lines: list[str]) -> list[str]:
    return [line.removeprefix("WRONG").strip() for line in lines if line.startswith("WRONG")]


def test_whole(root: Path, capsys: pytest.CaptureFixture) -> None:
    lines, code = call(capsys, str(root), "subset=true")
    assert (code, wrong(lines), lines[-1]) == (0, [], "nothing is wrong")
    text = "\n".join(lines)
    assert "it is PTB-XL 1.0.3, read by source=ptbxl" in text
    assert "records100/ is missing (1 files)" in text  # left out, which one may
    assert "RECORDS: 6 records named, all are here" in text and "6 headers, signal files as long as they say" in text
    assert "15 of 15 checksums are the publisher's" in text and "6 of 6 records tried can be read" in text
    assert "preparing 6 records takes about 1 s" in text and "(6 segments)" in text
    assert f"prepare it: bash scripts/prepare_data.sh configs/data/ptbxl.yaml root={root} out=data/ptbxl" in text


def test_a_part_is_not_the_whole(root: Path, capsys: pytest.CaptureFixture) -> None:
    lines, code = call(capsys, str(root))
    assert code == 1 and wrong(lines) == [
        "6 of the 21799 records of PTB-XL 1.0.3 are here  → fetch the rest: bash scripts/data/download_ptbxl.sh "
        f"out={root}; or say subset=true, if a part is what you want"
    ]


@pytest.mark.parametrize("suffix", ["hea", "dat"])
def test_missing_file(root: Path, suffix: str, capsys: pytest.CaptureFixture) -> None:
    (root / "records500" / "00000" / f"00002_hr.{suffix}").unlink()
    lines, code = call(capsys, str(root), "subset=false")
    again = f"→ fetch it again: bash scripts/data/download_ptbxl.sh out={root}"
    assert code == 1 and f"records500/00000/00002_hr.{suffix} is missing  {again}" in wrong(lines)
    if suffix == "dat":
        assert any(
            line.startswith("00002 cannot be read: ") and "does not exist beside it" in line for line in wrong(lines)
        )


def test_a_missing_folder_is_one_line(root: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (root / "records500" / "00001").iterdir():
        path.unlink()
    (root / "records500" / "00001").rmdir()
    lines, _ = call(capsys, str(root))
    assert next(line for line in wrong(lines) if "missing" in line).startswith("records500/00001/ is missing (6 files)")


def test_many_missing_files_are_counted(root: Path, capsys: pytest.CaptureFixture) -> None:
    with (root / "RECORDS").open("a") as file:
        file.writelines(f"records500/00000/{i:05d}_hr\n" for i in range(100, 120))
    lines, code = call(capsys, str(root), "checksums=false")
    assert code == 1 and sum("_hr.hea is missing" in line for line in lines) == 8
    assert any(line.startswith("… 13 more of these") for line in wrong(lines))


@pytest.mark.parametrize("checksums", ["true", "false"])
def test_truncated_file(root: Path, checksums: str, capsys: pytest.CaptureFixture) -> None:
    file = root / "records500" / "00000" / "00003_hr.dat"
    os.truncate(file, 119_998)
    lines, code = call(capsys, str(root), f"checksums={checksums}", "subset=true")
    expected = "records500/00000/00003_hr.dat is truncated: 119998 bytes where its header says 120000  →"
    assert code == 1 and wrong(lines)[0].startswith(expected)


def test_changed_byte(root: Path, capsys: pytest.CaptureFixture) -> None:
    file = root / "records500" / "00001" / "00005_hr.dat"
    raw = bytearray(file.read_bytes())
    raw[777] ^= 1
    file.write_bytes(raw)
    lines, code = call(capsys, str(root), "subset=true")
    assert code == 1 and len(wrong(lines)) == 1
    assert wrong(lines)[0].startswith("records500/00001/00005_hr.dat is not what was published: its sha256 differs  →")
    lines, code = call(capsys, str(root), "subset=true", "checksums=sample")
    assert code == 1 and any("(a sample of 15)" in line for line in lines)
    lines, code = call(capsys, str(root), "subset=true", "checksums=false")
    assert code == 0 and any("15 checksums were not looked at" in line for line in lines)


def test_md5_of_a_folder_below(root: Path, capsys: pytest.CaptureFixture) -> None:
    folder = root / "records500" / "00001"
    (root / "SHA256SUMS.txt").unlink()
    (folder / "MD5SUMS").write_text("".join(f"{digest(p, 'md5')}  {p.name}\n" for p in sorted(folder.iterdir())))
    lines, code = call(capsys, str(root), "subset=true")
    assert code == 0 and any("6 of 6 checksums are the publisher's" in line for line in lines)
    os.truncate(folder / "00004_hr.hea", 30)
    lines, code = call(capsys, str(root), "subset=true")
    assert code == 1 and "00004_hr.hea is no WFDB header: 12 signals, but" in wrong(lines)[0]


def test_unfinished_download(root: Path, capsys: pytest.CaptureFixture) -> None:
    file = root / "records500" / "00000" / "00001_hr.dat"
    file.rename(file.with_name(file.name + ".part"))
    lines, code = call(capsys, str(root), "subset=true")
    assert code == 1 and wrong(lines)[0].startswith("records500/00000/00001_hr.dat.part was not fetched to its end  →")


def test_another_database_than_asked_for(root: Path, capsys: pytest.CaptureFixture) -> None:
    lines, code = call(capsys, str(root), "source=ludb")
    assert code == 1 and wrong(lines) == [
        "source=ludb was asked for, but this is PTB-XL 1.0.3  → give source=ptbxl, or the folder of the other database"
    ]
    with pytest.raises(UserError, match="source: 'ptbxxl' is not one of .*; did you mean 'ptbxl'?"):
        main([str(root), "source=ptbxxl"])


def test_a_source_that_the_table_does_not_name_is_taken_at_its_word(
    root: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "DATABASES", ())
    lines, code = call(capsys, str(root), "source=ptbxl", "subset=true")
    assert code == 0 and lines[0] == "ok     it is what source=ptbxl reads, read by source=ptbxl"
    lines, code = call(capsys, str(root), "source=ludb", "subset=true")
    assert (
        code == 1
        and wrong(lines)[0].startswith("source=ludb cannot list the records: ")
        and "ludb.csv" in wrong(lines)[0]
    )


def test_any_records_can_be_read_as_such(root: Path, capsys: pytest.CaptureFixture) -> None:
    lines, code = call(capsys, str(root), "source=wfdb_folder", "subset=true")
    assert code == 0 and any("configs/data/wfdb_folder.yaml" in line for line in lines)


def test_keys_of_prepare_count(root: Path, capsys: pytest.CaptureFixture) -> None:
    lines, code = call(capsys, str(root), "subset=true", "rate=100")
    assert code == 1  # no header of the folder that would be read
    lines, code = call(capsys, str(root), "subset=true", "fs=500", "seconds=5")
    assert code == 0 and any("(12 segments)" in line for line in lines)
    assert any(line.endswith("out=data/ptbxl fs=500 seconds=5") for line in lines)
    with pytest.raises(UserError, match="unknown key 'secnods'; did you mean 'seconds'?"):
        main([str(root), "secnods=5"])


def test_the_disk_is_too_small(root: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    lines, code = call(capsys, str(root), "subset=true")
    assert code == 1 and re.search(r"has 0\.0 GB free, which is too little  → make room", wrong(lines)[0])


def test_paths_that_are_no_database(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty, archive, junk = tmp_path / "empty", tmp_path / "ptb-xl.zip", tmp_path / "junk"
    empty.mkdir()
    junk.mkdir()
    archive.write_bytes(b"PK")
    for path, expected in {
        empty: "is empty  → fetch a database",
        archive: "is a file  → unpack it, and give the folder of the unpacked database",
        tmp_path / "nowhere": "does not exist  → give the folder",
        root / "records500" / "..": "",
    }.items():
        lines, code = call(capsys, str(path), "subset=true")
        assert (code == 1 and expected in wrong(lines)[0]) if expected else code == 0
    (junk / "note.txt").write_text("x")
    lines, code = call(capsys, str(junk))
    assert code == 1 and "is no database that is known, and holds no WFDB header (*.hea); it holds note.txt" in lines[0]
    (junk / "unpacked").symlink_to(root)
    lines, code = call(capsys, str(junk))
    assert code == 1 and f"→ {junk / 'unpacked'} is PTB-XL 1.0.3: give that folder" in lines[0]


def test_no_permission(root: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = root / "records500" / "00001"
    closed.chmod(0)
    if os.geteuid() == 0:  # who may read everything
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).stat().st_mode & 0o400 and real(path, mode))
    try:
        lines, code = call(capsys, str(root), "subset=true")
        assert code == 1 and wrong(lines)[0].startswith(
            f"{closed} may not be read by you  → chmod -R u+rX {closed}, or"
        )
        root.chmod(0)
        lines, code = call(capsys, str(root))
        assert code == 1 and wrong(lines)[0].startswith(f"{root} may not be read by you  → chmod -R u+rX {root}")
    finally:
        root.chmod(0o755)
        closed.chmod(0o755)


def test_folders_of_records_of_the_challenges(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """RECORDS names folders, whose own RECORDS names records; a cohort that is not here is left out."""
    root = tmp_path / "challenge"
    (root / "training").mkdir(parents=True)
    (root / "RECORDS").write_text("training/georgia/g1/\ntraining/ningbo/g1/\n")
    for i in range(3):
        write_record(root / "training" / "georgia" / "g1", f"E{i:05d}", draw_ecg(i))
    (root / "training" / "georgia" / "g1" / "RECORDS").write_text("E00000\nE00001\nE00002\nE00003\n")
    lines, code = call(capsys, str(root))
    assert code == 1 and [line.partition("  ")[0] for line in wrong(lines)] == [
        "training/georgia/g1/E00003.hea is missing",
        "3 of the 10344 records of georgia are here",
    ]
    assert "Challenge 2021" in lines[0] and not any("ningbo" in line for line in wrong(lines))
    assert any(line.startswith("note   no record of cpsc_2018, ") for line in lines)  # as the source says


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 2 500 5000\na.dat 16 1000/mV 16 0 0 0 0 I\na.dat 16 1000/mV 16 0 0 0 0 II\n", {"a.dat": 20000}),
        ("a.mat 2 500 5000 05-May\na.mat 16+24 1000/mV 16 0\na.mat 16+24 1000/mV 16 0\n", {"a.mat": 20024}),
        ("# first\nb 2 360 650001\nb.dat 212 200 11\nb.dat 212 200 11\n", {"b.dat": 1950003}),
        ("c 3 100 10\nx.dat 24\ny.dat 16x4:2+8\ny.dat 80\n", {"x.dat": 30, "y.dat": None}),
        ("d 1 100 10\nd.dat 516\n", {"d.dat": None}),
        ("e 1 100\ne.dat 16\n", {"e.dat": None}),
        ("f/2 1 100 20\nf1 10\nf2 10\n", {}),
    ],
)
def test_bytes_that_a_header_asks_for(text: str, expected: dict[str, int | None]) -> None:
    found = bytes_wanted(text)
    if "y.dat" in expected:  # two formats in one file are none of WFDB's; only that nothing is raised counts
        found["y.dat"] = None
    assert found == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty"), ("a\n", "first line"), ("a 2 500 10\na.dat 16\n", "2 signals"), ("a 1 5 1\nx\n", "no signal")],
)
def test_headers_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bytes_wanted(text)


def test_the_table_of_databases_holds() -> None:
    names = [one.name for one in DATABASES]
    assert len(set(names)) == len(names)
    scripts = {path.stem.removeprefix("download_") for path in (REPO_ROOT / "scripts" / "data").glob("download_*.sh")}
    assert scripts == set(names)
    for one in DATABASES:
        for source in one.sources:
            assert source not in SOURCES or (REPO_ROOT / "configs" / "data" / f"{source}.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "title", "counts"),
    [
        ("ptb-xl", "PTB-XL 1.0.3", ["500 of the 21799"]),
        ("ludb", "LUDB 1.0.1", ["50 of the 200"]),
        ("code15", "CODE-15 % 1.0.0", ["20 of the 345779"]),
        ("challenge2021", "PhysioNet/CinC Challenge 2021 1.0.3", ["8 of the 6877", "8 of the 34905"]),
    ],
)
def test_real_samples(name: str, title: str, counts: list[str], capsys: pytest.CaptureFixture) -> None:
    root = real_data(name)
    assert (found := recognise(root)) is not None and found.title == title
    lines, code = call(capsys, str(root), "probe=8")
    assert code == 1 and all("records of" in line and "subset=true" in line for line in wrong(lines))
    assert all(any(count in line for line in wrong(lines)) for count in counts)
    assert call(capsys, str(root), "probe=8", "subset=true")[1] == 0


def test_a_damaged_part_of_code15(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = real_data("code15")
    for name in ("exams.csv", "exams_part0.hdf5"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    os.truncate(tmp_path / "exams_part0.hdf5", 100_000)
    lines, code = call(capsys, str(tmp_path), "subset=true")
    assert code == 1 and "source=code15 cannot list the records" in wrong(lines)[0] and "truncated" in wrong(lines)[0]


def test_usage(capsys: pytest.CaptureFixture) -> None:
    main(["--help"])
    assert "checksums = true  (true | false | sample)" in capsys.readouterr().out
    with pytest.raises(UserError, match="one folder is expected, 2 given"):
        main(["a", "b"])
    with pytest.raises(UserError, match="is about a database, but no PATH is given"):
        main(["probe=3"])
    assert doctor.USAGE.startswith("usage: bash scripts/doctor.sh")
