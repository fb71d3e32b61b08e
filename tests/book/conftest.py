"""Live pictures: their arithmetic run in Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "book" / "_static"


@pytest.fixture
def in_node():
    """Return ``run(module, calls)``: the results of ``[[function, arguments], ...]`` of one ``.math.js`` file."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js")

    def run(module, calls):
        program = (
            f"const m = require({json.dumps(str(STATIC / module))});"
            "const calls = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
            "console.log(JSON.stringify(calls.map(([f, a]) => m[f](...a))));"
        )
        done = subprocess.run(
            ["node", "-e", program], input=json.dumps(calls), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return run
