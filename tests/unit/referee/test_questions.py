"""What is asked of a folder, and what is no question."""

from __future__ import annotations

from typing import Any

import pytest

from onitu.model.errors import OnituError
from onitu.referee import questions


@pytest.mark.parametrize("after", [{"f": "nonsense"}, {"f": 7}, "text", 5, {"f": "1-" + 30 * "9"}, {"f": "1-0\n"}])
def test_what_is_no_line_of_the_journal_is_told(after: Any) -> None:
    with pytest.raises(OnituError, match="is no number of a line of the journal"):
        questions._after({"after": after}, "f")


@pytest.mark.parametrize(("after", "expected"), [({}, ""), (None, ""), ({"g": "1-0"}, ""), ({"f": "17-3"}, "17-3")])
def test_each_folder_has_lines_of_its_own(after: Any, expected: str) -> None:
    assert questions._after({"after": after}, "f") == expected
