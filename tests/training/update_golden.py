"""Write the golden curves anew: python tests/training/update_golden.py, or some of them: -k NAME."""

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ["VLA_UPDATE_GOLDEN"] = "1"
    sys.exit(pytest.main([str(Path(__file__).with_name("test_golden.py")), *sys.argv[1:]]))
