"""What a header promises, held against the file before anything is allocated, and packed voxels read to their end."""

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from toolkit.scans.reasons import Reason, ScanError

MAX_VOXELS = 1 << 31
"""Of one scan, channels included: 8 GiB as float32. A whole-body CT has a quarter of that."""
MOST_DEFLATE = 1032
"""Bytes that deflate makes of one, at the very most."""
CHUNK_BYTES = 1 << 20


def check_voxels(num_voxels: int, path: str | Path) -> None:
    """Refuses a header that promises more voxels than any scan has, or none."""
    if num_voxels > MAX_VOXELS:
        raise ScanError(
            Reason.TOO_LARGE,
            path,
            f"the header promises {num_voxels:.3g} voxels, more than the {MAX_VOXELS:.3g} of any scan; "
            "if it is right, crop or downsample the scan",
        )
    if num_voxels < 1:
        raise ScanError(Reason.INCONSISTENT, path, "the header promises no voxel; export the scan again")


def check_size(promised: int, found: int, path: str | Path, what: str = "the header promises") -> None:
    """Refuses a file whose voxels are not as many bytes as its header says."""
    if found < promised:
        raise ScanError(Reason.TRUNCATED, path, f"{what} {promised:,} bytes, the file has {found:,}; copy it again")
    if found > promised:
        raise ScanError(
            Reason.INCONSISTENT, path, f"{what} {promised:,} bytes, the file has {found:,}; one of them is wrong"
        )


def check_packed(promised: int, packed: int, path: str | Path) -> None:
    """Refuses a deflated file that is too short for what its header promises."""
    if promised > MOST_DEFLATE * packed:
        raise ScanError(
            Reason.INCONSISTENT,
            path,
            f"the header promises {promised:,} bytes, and {packed:,} packed ones cannot hold them; copy it again",
        )


def unpack(
    chunks: Iterator[bytes], promised: int, path: str | Path, into: Callable[[bytes], object] | None = None
) -> None:
    """Unpacks to the very end, so that the checksum is checked; nothing is kept here.

    Args:
        chunks: Unpacked bytes, from `unpacked_chunks`.
        promised: How many bytes the header says there are.
        path: For the error.
        into: Takes them, a chunk at a time and no more than promised.

    Raises:
        ScanError: More or fewer bytes than promised, damaged or cut-off data, a wrong checksum.
    """
    count = 0
    try:
        for chunk in chunks:
            count += len(chunk)
            if into and count <= promised:
                into(chunk)
            if count > promised + (CHUNK_BYTES << 4):  # enough to know: a bomb is not read for hours
                break
    except EOFError:
        raise ScanError(Reason.TRUNCATED, path, f"packed data end after {count:,} bytes; copy it again") from None
    except (OSError, zlib.error, ValueError) as error:
        raise damage(error, path) from None
    check_size(promised, count, path)


def damage(error: Exception, path: str | Path) -> Exception:
    """What an error of unpacking means: damaged data, unless the disk or the network gave it (only these number it)."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ScanError(Reason.CHECKSUM, path, f"packed data are damaged ({error}); copy it again")


def unpacked_chunks(file: BinaryIO, kind: Literal["", "gzip", "bz2", "zlib"]) -> Iterator[bytes]:
    """Unpacks bit by bit; each of the three ends with a checksum, and it is compared. "" is not packed."""
    if not kind:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
        return
    if kind == "zlib":
        decompressor = zlib.decompressobj()
        while not decompressor.eof:
            packed = file.read(CHUNK_BYTES // MOST_DEFLATE)
            if not packed:
                raise EOFError
            yield decompressor.decompress(packed)
        return
    with gzip.GzipFile(fileobj=file) if kind == "gzip" else bz2.BZ2File(file) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
