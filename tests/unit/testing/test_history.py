from __future__ import annotations

import pytest

from onitu.testing.spec import History


def every_deed() -> History:
    history = History()
    history.write("here", "a\udcff", "v1")
    history.write("there", "a", "v2", replaced="v1", at=0.5)
    history.delete("here", "a", "v2")
    history.rename("here", "a", "b", "v3", replaced="v4")
    history.rename("here", "d", "e", None)
    history.mkdir("here", "d")
    history.rmdir("here", "d")
    history.touch("here", "b")
    history.look("here", "b", None)
    history.forget("the index")
    history.rest()
    return history


def test_a_history_survives_json() -> None:
    history = every_deed()
    again = History.from_json(history.to_json())
    assert again == history
    assert list(again) == list(history)


@pytest.mark.parametrize("line", ["", "{}", '{"deed": "Steal", "at": 1}', '{"deed": "Touch", "at": 1}', "no"])
def test_a_line_that_is_no_deed_is_told_by_number(line: str) -> None:
    text = History.from_json("").to_json() + every_deed().to_json() + line + "\n"
    with pytest.raises(ValueError, match="line 12"):
        History.from_json(text)


def test_a_value_knows_what_it_went_through() -> None:
    assert [deed.words() for deed in every_deed().of("v2")] == [
        "v2 written at a on there over v1",
        "v2 deleted at a on here",
    ]
