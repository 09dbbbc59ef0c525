"""Sphinx: `nox -s docs`. The reference is made from the code by `generated`, each time."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Onitu"
author = "The Onitu developers"
copyright = "The Onitu developers"
extensions = ["myst_parser", "generated"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Onitu"
