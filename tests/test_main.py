"""The program itself: what Ctrl-C does before, in and after its command."""

import subprocess
import sys

import pytest

import mrcnn_np
from mrcnn_np.cli.main import main

#: runs the program; Ctrl-C comes when the module that is named first is imported
PROGRAM = """
import os, signal, sys

module = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, {handler})
from mrcnn_np.__main__ import run
run()
"""


def program(module, *arguments, handler="signal.default_int_handler"):
    """Return exit code and stderr."""
    command = [sys.executable, "-c", PROGRAM.format(handler=handler), module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "module", ["mrcnn_np.cli.main", "numpy", "numpy.linalg", "mrcnn_np.cli.data", "mrcnn_np.data.images"]
)
def test_ctrl_c_while_importing(module):
    assert program(module, "data", "voc") == (130, "\ninterrupted\n")


def test_an_import_that_fails_by_ctrl_c_is_an_interruption(monkeypatch, capsys):
    """As C extensions do: ImportError, directly caused by KeyboardInterrupt."""

    def broken(args):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise ImportError("initialization failed") from interrupt

    monkeypatch.setattr("mrcnn_np.cli.data.run_voc", broken)
    assert main(["data", "voc"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
    monkeypatch.setattr("mrcnn_np.cli.data.run_voc", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["data", "voc"])


def test_without_ctrl_c():
    code, err = program("no.such.module", "data", "voc")
    assert code == 2 and err.startswith("error: nothing to do; --download fetches")


def test_ctrl_c_that_is_ignored_stays_ignored():
    """A shell starts the background jobs of a script so."""
    code, err = program("numpy", "data", "voc", handler="signal.SIG_IGN")
    assert code == 2 and err.startswith("error: nothing to do")


def test_help_answers_before_numpy_is_imported():
    code = "import sys, mrcnn_np.cli.arguments as a, mrcnn_np.cli.main; a.build_parser(); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_what_the_package_offers():
    assert mrcnn_np.presets.tiny().name == "tiny" and mrcnn_np.MaskRCNN.__module__ == "mrcnn_np.model"
    assert set(mrcnn_np.__all__) == {"MaskRCNN", "presets"}
    with pytest.raises(AttributeError, match="no attribute 'FasterRCNN'"):
        _ = mrcnn_np.FasterRCNN
