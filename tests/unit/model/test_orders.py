from __future__ import annotations

from msgspec.structs import replace

from onitu.model.orders import Do, Order, Source
from onitu.model.versions import NOTHING, Kind, Version


def test_an_order_under_another_number_is_otherwise_the_same() -> None:
    source = Source("nas", b"a", b"token")
    order = Order(0, Do.PUT, b"a", Version(Kind.FILE, 1), b"expected", NOTHING, b"target", b"keep", (source,))
    assert order.numbered(7) == replace(order, number=7)
