"""What a run remembers of its options."""

import shutil

import pytest

from mrcnn_np.cli.main import main
from mrcnn_np.cli.options import read_ids


def test_ids_may_contain_spaces_and_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfone image\r\n\n  two \n")
    assert read_ids(str(path)) == ["one image", "two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", " is a list of 0; expected an object"),
        ('{"root": 5}', "['root'] is 5; expected a text or null"),
        ('{"config": 3}', "['config'] is 3; expected a list"),
        ("{", " is not JSON"),
    ],
)
def test_damaged_options_are_named(trained, tmp_path, capsys, text, message):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "options.json").write_text(text)
    for command in (["train", "--out", str(run), "--resume"], ["eval", "--run", str(run)]):
        assert main(command) == 2
        assert f"error: {run / 'options.json'}{message}" in capsys.readouterr().err
