"""What `import scalegan` offers, and what it costs."""

import subprocess
import sys

import scalegan


def test_public_names() -> None:
    assert sorted(scalegan.__all__) == ["__version__", "load"]


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, scalegan, scalegan.cli; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
