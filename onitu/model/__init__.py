"""The words of Onitu as values: frozen, slotted attrs classes, no I/O, nothing of ours imported.

Messages carry these classes as they are (msgspec encodes attrs classes natively), so each field has a plain
type: `bytes`, `str`, `int`, `bool`, an enum, another of these classes, or a tuple or dict of such.
"""
