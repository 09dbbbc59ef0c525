"""How commands are written for the server: a commit has thousands of words, and redis-py takes its time for each."""

from __future__ import annotations


class Packer:
    """What redis-py has pack its commands (`command_packer`), in the Redis serialization protocol (RESP 2 and 3)."""

    def pack(self, command: str, *words: bytes | str | int | float) -> list[bytes]:
        """A command as the pieces that are sent: here one. Text becomes UTF-8; a command of two words (`SCRIPT LOAD`)
        comes as one text."""
        names = command.split()
        packed = [b"*%d\r\n" % (len(names) + len(words))]
        for word in (*names, *words):
            data = word if isinstance(word, bytes) else str(word).encode()
            packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
        return [b"".join(packed)]
