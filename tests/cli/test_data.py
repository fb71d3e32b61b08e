"""``mrcnn-np data``: check, and what does nothing."""

from small_run import copy_shapes

from mrcnn_np.cli.main import main


def test_data_check(shapes, tmp_path, capsys):
    assert main(["data", "check", "--root", shapes, "--split", "val"]) == 0
    assert "problems   none" in capsys.readouterr().out
    root = copy_shapes(shapes, tmp_path / "shapes")
    (root / "VOC2012" / "JPEGImages" / "val_000001.jpg").unlink()
    good = tmp_path / "good.txt"
    assert main(["data", "check", "--root", str(root), "--split", "val", "--good-ids", str(good)]) == 2
    assert "val_000001" in capsys.readouterr().out
    assert good.read_text() == "val_000000\n"


def test_data_voc_without_download_does_nothing(tmp_path, capsys):
    assert main(["data", "voc", "--root", str(tmp_path)]) == 2
    assert "--download" in capsys.readouterr().err
