"""Files written whole or not at all, whatever fails on the way."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
from refusals import line_of

from chargen.errors import RunError
from chargen.files import write_atomically

OLD, NEW = b"the old file", bytes(range(256)) * 400


def fail(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def break_the_write(monkeypatch):
    real = tempfile.NamedTemporaryFile

    def failing(*args, **kwargs):
        file = real(*args, **kwargs)
        write = file.write
        file.write = lambda data: (write(data[:100]), fail())
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", failing)


FAILURES = {
    "write": break_the_write,
    "fsync": lambda patch: patch.setattr(os, "fsync", fail),
    "replace": lambda patch: patch.setattr(os, "replace", fail),
    "chmod": lambda patch: patch.setattr(os, "chmod", fail),
    "no temporary file": lambda patch: patch.setattr(tempfile, "NamedTemporaryFile", fail),
    "read back": lambda patch: patch.setattr(Path, "read_bytes", lambda _: b"something else"),
}


@pytest.mark.parametrize("old", (OLD, None), ids=("old", "new"))
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_write_leaves_everything_as_it_was(failure, old, tmp_path):
    path = tmp_path / "model.keras"
    if old is not None:
        path.write_bytes(old)
    with pytest.MonkeyPatch.context() as patch:
        FAILURES[failure](patch)
        with pytest.raises(RunError) as caught:
            write_atomically(path, NEW)
    assert line_of(caught, 1).startswith(f"{path}: cannot be written: ")
    left = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert left == ({} if old is None else {"model.keras": old})


def test_an_interrupted_write_leaves_everything_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(OLD)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, NEW)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"model.keras": OLD}


def test_an_error_after_the_replacement_does_not_claim_that_the_old_file_stands(
    tmp_path, monkeypatch
):
    path = tmp_path / "model.keras"
    path.write_bytes(OLD)
    real = os.fsync

    def no_folders(descriptor):  # as some network file systems
        return fail() if stat.S_ISDIR(os.fstat(descriptor).st_mode) else real(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    try:
        write_atomically(path, NEW)
    except RunError as error:
        assert ("untouched" in str(error)) == (path.read_bytes() == OLD)
    else:
        assert path.read_bytes() == NEW


def test_the_file_reaches_the_disk_before_its_name_and_the_folder_after(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if is_folder else "file")
        fsync(descriptor)

    def noted_replace(*paths):
        done.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomically(tmp_path / "model.keras", NEW)
    assert done == ["file", "name", "folder"]


@pytest.mark.parametrize("mode", (0o600, 0o640, 0o644, 0o666))
def test_a_file_that_stands_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "model.keras"
    path.touch()
    path.chmod(mode)
    write_atomically(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == NEW


@pytest.mark.parametrize(("umask", "mode"), ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)))
def test_a_new_file_has_the_permissions_that_the_umask_leaves(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "model.keras", NEW)
        kept = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.keras").stat().st_mode) == mode
    assert kept == umask


@pytest.mark.parametrize("where", ("missing/model.keras", "."))
def test_a_place_that_takes_no_file_is_refused_in_one_line(where, tmp_path):
    with pytest.raises(RunError) as caught:
        write_atomically(tmp_path / where, NEW)
    line_of(caught, 1)
    assert list(tmp_path.iterdir()) == []
