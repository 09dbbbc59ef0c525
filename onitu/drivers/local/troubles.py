"""What an `OSError` means to the Referee and to a person."""

from __future__ import annotations

import errno

from onitu.model import paths
from onitu.model.events import Trouble
from onitu.plug.words import Refused

_TROUBLES = {
    errno.ENOSPC: Trouble.NO_SPACE,
    errno.EDQUOT: Trouble.NO_SPACE,
    errno.EFBIG: Trouble.NO_SPACE,
    errno.EACCES: Trouble.DENIED,
    errno.EPERM: Trouble.DENIED,
    errno.EROFS: Trouble.DENIED,
    errno.ETXTBSY: Trouble.DENIED,
    errno.ENAMETOOLONG: Trouble.NAME_IMPOSSIBLE,
    errno.EILSEQ: Trouble.NAME_IMPOSSIBLE,
    errno.EINVAL: Trouble.NAME_IMPOSSIBLE,
    errno.ENOTEMPTY: Trouble.NOT_EMPTY,
    errno.EOPNOTSUPP: Trouble.UNSUPPORTED,
    errno.EXDEV: Trouble.UNSUPPORTED,
}

_CAUSES = {
    errno.EXDEV: "another file system is mounted there, and nothing can be replaced across the two without a gap",
    errno.ENOTDIR: "one of its parents is no directory",
    errno.ELOOP: "one of its parents is a symbolic link",
}


def trouble_of(error: OSError) -> Trouble:
    """The class of an error; `IO` for what has no class of its own."""
    return _TROUBLES.get(error.errno or 0, Trouble.IO)


def sentence(doing: str, path: bytes, error: OSError) -> str:
    """A sentence for people: "cannot write photos/a.jpg: no space left on device"."""
    cause = _CAUSES.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return f"cannot {doing} {paths.show(path)}: {cause}"


def refused(doing: str, path: bytes, error: OSError) -> Refused:
    """The error as the driver interface has it."""
    return Refused(trouble_of(error), sentence(doing, path, error))
