"""Files that are whole or not there: where they are put, and what is left as it is."""

import os
import stat
import threading

import pytest
from trellis_regression.whole import beginning, is_stream, write_whole


def test_a_file_is_replaced_when_it_is_whole_and_else_stays(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_whole(path, lambda file: file.write_text("old"))

    def fail(file):
        file.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_link_stays_and_what_it_names_is_written(tmp_path):
    target, link = tmp_path / "far" / "a.json", tmp_path / "a.json"
    link.symlink_to(target)
    for text in ("first", "second"):  # to nothing yet, and to a file
        write_whole(link, lambda file, text=text: file.write_text(text))
        assert link.is_symlink() and target.read_text() == text


def test_a_pipe_stays_and_is_written_to(tmp_path):
    """As /dev/null does, which a file in its place would break for the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, lambda file: file.write_text("text"))
    reader.join(10)
    assert read == ["text"] and stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]
    assert is_stream(pipe.__class__("/dev/null")) and not is_stream(tmp_path) and not is_stream(tmp_path / "none")


@pytest.mark.parametrize("name", ["x" * 255, "椅" * 85, "a"])
def test_a_name_may_be_as_long_as_names_may_be(tmp_path, name):
    seen = []
    write_whole(tmp_path / name, lambda file: (seen.append(file.name), file.write_text("text")))
    assert (tmp_path / name).read_text() == "text"
    assert seen[0].startswith(beginning(name)) and len(seen[0]) == len(beginning(name)) + 12
