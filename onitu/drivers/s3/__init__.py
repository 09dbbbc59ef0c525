"""Amazon S3, and every service that speaks its language: MinIO, Ceph, Garage, SeaweedFS, R2, Wasabi, B2…

A replica is a bucket, or a prefix in one. Requests are the driver's own, over the standard library's connections in
threads; credentials come through botocore (Apache-2.0, pure Python, a release every few days), so they are found where
every tool of Amazon's finds them. Measured on two busy cores, 1,000 puts of 64 KiB and one of 500 MiB, processor time
of this side: this driver 1.7 to 1.9 s and 1.9 s, all digests with it; boto3 without them 2.4 to 3.0 s and 1.4 s, httpx
on Trio 2.8 to 3.2 s and 1.1 s. obstore (Rust) needs 0.5 s and 1.0 s, but has no conditional delete, no multipart upload
that can be resumed, and no user metadata in a look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from .driver import S3Driver
    from .options import S3Options

__all__ = ["S3Driver", "S3Options"]

__getattr__ = later(__name__, {"S3Driver": ".driver", "S3Options": ".options"})
