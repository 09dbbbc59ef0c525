"""What is at hand, and what it costs to ask for it."""

from __future__ import annotations

import pytest

from onitu.model import paths
from onitu.model.nodes import Holding, Node
from onitu.model.versions import Kind, Version
from onitu.referee.view import Need, View

FILE = Version(Kind.FILE, 1, {"blake3": bytes(32)}, service="a", seq=1)


def file(path: bytes) -> Node:
    return Node(path, FILE, {"a": Holding(FILE, b"token")})


def names(view: View, directory: bytes) -> list[bytes]:
    return [node.path for node in view.children(directory)]


def test_children_are_those_of_the_store_and_those_at_hand_which_are_newer() -> None:
    view = View([file(b"d/a"), Node(b"d/gone"), file(b"e/x")])
    with pytest.raises(Need) as need:
        view.children(b"d")
    assert need.value.children == (b"d",)
    view.load_children(b"d", [file(b"d/b"), file(b"d/gone")])
    assert names(view, b"d") == [b"d/a", b"d/b"]


def test_what_comes_to_hand_later_is_a_child_too_and_what_becomes_empty_is_none() -> None:
    view = View([file(b"d/a")])
    view.load_children(b"e", [])
    view.put(file(b"d/new"))
    view.take_in([file(b"d/taken")])
    view.load([b"d/loaded", b"d/unknown"], {b"d/loaded": file(b"d/loaded")})
    view.load_children(b"d", [])
    assert names(view, b"d") == [b"d/a", b"d/loaded", b"d/new", b"d/taken"]
    view.put(Node(b"d/a"))
    view.put(file(b"d/unknown"))
    assert names(view, b"d") == [b"d/loaded", b"d/new", b"d/taken", b"d/unknown"]


def test_what_was_dropped_is_no_child_any_more() -> None:
    view = View([file(b"d/a")])
    view.load_children(b"d", [])
    view.forget()
    view.load_children(b"d", [file(b"d/b")])
    assert names(view, b"d") == [b"d/b"]


def test_the_children_of_many_directories_cost_one_look_at_all_that_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    directories = [b"%d" % number for number in range(100)]
    view = View([file(directory + b"/%d" % number) for directory in directories for number in range(50)])
    looks = 0
    parent = paths.parent

    def counted(path: bytes) -> bytes:
        nonlocal looks
        looks += 1
        return parent(path)

    monkeypatch.setattr(paths, "parent", counted)
    for directory in directories:
        view.load_children(directory, [])
        assert len(view.children(directory)) == 50
    assert looks <= 50 * len(directories)
