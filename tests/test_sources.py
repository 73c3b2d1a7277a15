"""What the names of a corpus lead to: files, folders, globs, in a fixed order."""

import os
from pathlib import Path

import pytest
from refusals import line_of, unprivileged

from chargen.errors import RunError, TextError, UsageError
from chargen.reading import STDIN, expand_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of files and folders, made in no sorted order, where the test then stands."""
    for name in ("z/y.txt", "b.txt", "c/d/e.md", ".git/config", "a.txt", "c/.hidden", "c/d.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "empty").mkdir()
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = ["a.txt", "b.txt", "c/d.txt", "c/d/e.md", "z/y.txt"]


def test_a_folder_is_its_files_below_in_order_without_hidden_ones(folder):
    assert expand_sources(["corpus"]) == [f"corpus/{name}" for name in FILES]
    assert expand_sources([folder / "corpus"]) == [str(folder / "corpus" / name) for name in FILES]


def test_the_order_is_not_that_of_the_disk(folder):
    names = [f"many/{number}/{number}" for number in (37 * n % 101 for n in range(40))]
    for name in names:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    assert expand_sources(["many"]) == sorted(names)


def test_a_link_to_a_folder_is_that_folder(folder):
    (folder / "link").symlink_to("corpus")
    assert expand_sources(["link"]) == [f"link/{name}" for name in FILES]


def test_a_glob_is_its_files_in_order(folder):
    assert folder.is_dir()
    assert expand_sources(["corpus/*.txt"]) == ["corpus/a.txt", "corpus/b.txt"]
    assert expand_sources(["corpus/[b]*"]) == ["corpus/b.txt"]
    assert expand_sources(["corpus/**/*.txt"]) == [
        f"corpus/{name}" for name in FILES if name.endswith(".txt")
    ]


def test_several_sources_keep_their_order(folder):
    sources = ["corpus/z", STDIN, Path("corpus/b.txt"), "corpus/a*"]
    assert expand_sources(sources) == ["corpus/z/y.txt", STDIN, "corpus/b.txt", "corpus/a.txt"]
    assert expand_sources(["corpus/b.txt", "corpus/b.txt"]) == ["corpus/b.txt"] * 2
    assert expand_sources([folder / "corpus" / "a.txt"]) == [str(folder / "corpus" / "a.txt")]


def test_a_file_that_is_named_is_read_even_if_hidden_or_like_a_pattern(folder):
    for name in (".hidden", "a[b].txt", "what?.txt", "*"):
        (folder / name).write_text("text")
        assert expand_sources([name]) == [name]


def test_a_file_named_dash_is_reached_by_its_folder(folder):
    (folder / "-").write_text("text")
    assert expand_sources(["./-"]) == ["./-"]


@pytest.mark.parametrize(
    ("source", "kind", "status"),
    [
        ("missing.txt", RunError, 1), ("corpus/missing", RunError, 1), ("a\0b", RunError, 1),
        ("corpus/*.pdf", RunError, 1), ("empty/*", RunError, 1), ("", RunError, 1),
        ("corpus/a.txt/", RunError, 1), ("x" * 300, RunError, 1), ("empty", TextError, 3),
        ("corpus/.git/../../empty", TextError, 3),
    ],
)  # fmt: skip
def test_a_name_that_leads_to_nothing_is_refused(folder, source, kind, status):
    assert folder.is_dir()
    with pytest.raises(kind) as caught:
        expand_sources([source])
    assert type(caught.value) is kind
    assert source in line_of(caught, status)


def test_a_folder_of_hidden_files_alone_is_refused(folder):
    for name in (".a", ".b/c"):
        (folder / "empty" / name).parent.mkdir(exist_ok=True)
        (folder / "empty" / name).write_text("hidden")
    with pytest.raises(TextError, match=r"^empty: .*no files") as caught:
        expand_sources(["empty"])
    line_of(caught, 3)


def test_a_pattern_that_matches_only_folders_is_refused(folder):
    assert folder.is_dir()
    with pytest.raises(RunError, match="no file matches"):
        expand_sources(["corpus/[cz]"])


@pytest.mark.parametrize("closed", ["corpus", "corpus/c/d"])
def test_a_folder_that_cannot_be_read_is_refused(folder, closed):
    os.chmod(folder / closed, 0)
    try:
        with unprivileged(), pytest.raises(RunError, match="cannot read this folder") as caught:
            expand_sources(["corpus"])
    finally:
        os.chmod(folder / closed, 0o755)
    assert closed in line_of(caught, 1)


def test_standard_input_is_named_once():
    with pytest.raises(UsageError, match="twice") as caught:
        expand_sources([STDIN, STDIN])
    line_of(caught, 2)
