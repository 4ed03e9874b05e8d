"""NRRD and MetaImage: ITK reads the header, once it was held against its data files, which lie beside it or nowhere."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from toolkit.scans.orientation import check_affine
from toolkit.scans.promises import check_packed, check_size, check_voxels, unpack, unpacked_chunks
from toolkit.scans.reasons import COLOUR, Reason, ScanError
from toolkit.scans.voxels import FileVoxels, Voxels

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM count towards left and posterior."""
_MOST_HEADER_BYTES = 1 << 16
_MOST_FILES = 10_000
_NRRD_BYTES = {
    "": 4, "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2, "uint": 4,
    "int32": 4, "uint32": 4, "long": 8, "longlong": 8, "ulonglong": 8, "int64": 8, "uint64": 8, "float": 4, "double": 8,
}  # fmt: skip
"""By what is left of a type's name without signs, `_t` and the word int: "unsigned short int", "uint16_t"."""
_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_ORIENTATION = re.compile(
    rb"^(?:space(?: directions)?:|(?:TransformMatrix|Rotation|Orientation) *=)", re.MULTILINE | re.IGNORECASE
)
_KINDS = {
    sitk.sitkInt8: "i1", sitk.sitkUInt8: "u1", sitk.sitkInt16: "i2", sitk.sitkUInt16: "u2", sitk.sitkInt32: "i4",
    sitk.sitkUInt32: "u4", sitk.sitkInt64: "i8", sitk.sitkUInt64: "u8", sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8",
}  # fmt: skip
"""NumPy's names of ITK's numbers."""
_ORDER: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">", "false": "<", "true": ">"}
_PACKING: dict[str, Literal["gzip", "bz2"]] = {"gzip": "gzip", "gz": "gzip", "bzip2": "bz2", "bz2": "bz2"}


@dataclass(frozen=True)
class _Promise:
    """What a header says of its voxels: where they are, in what form, and how many bytes."""

    sizes: list[int]
    item_bytes: int
    packing: Literal["", "gzip", "bz2", "zlib", "text"]
    files: list[str]  # none: they follow the header
    header_bytes: int
    skip: int = 0
    order: Literal["<", ">", ""] = ""  # of the bytes; not said
    is_spaced: bool = True  # where nothing is said of spacing, ITK takes 1 mm

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.sizes, dtype=object)) * self.item_bytes


def read_itk(path: Path, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (I, J, K) or (I, J, K, C), and the affine to RAS world millimetres.

    Args:
        path: The file, or the header of several.
        whole: See `Voxels`.

    Raises:
        ScanError: Data are not as many as the header says, packed data are damaged, a data file is missing or lies
            outside the header's folder, the header does not say the voxels' spacing or says what `check_affine`
            refuses, or the image has not 3 dimensions.
    """
    promise = _promise(path)
    check_voxels(int(np.prod(promise.sizes, dtype=object)), path)
    if not promise.is_spaced:
        raise ScanError(Reason.NO_POSITION, path, "the header does not say how far apart voxels are; write it there")
    data_files = _confined(promise, path)
    starts = [_start(promise, file, len(data_files), path) for file in data_files]
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetDimension() != 3:
        raise ScanError(
            Reason.NOT_A_VOLUME, path, f"{reader.GetDimension()} dimensions where a volume has 3; keep one volume"
        )
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise ScanError(Reason.NOT_A_VOLUME, path, COLOUR)
    affine = ras_affine(reader)
    check_affine(affine, path)
    kind = _kind(promise, reader)
    filled = FileVoxels(reader.GetSize(), affine, kind, whole=whole) if kind else None
    for file, start in zip(data_files, starts, strict=True):
        if promise.packing != "text" and (promise.packing or filled):
            with file.open("rb") as stream:
                stream.seek(start)
                chunks = unpacked_chunks(stream, promise.packing)
                unpack(chunks, promise.num_bytes // len(data_files), path, filled.add if filled else None)
    if filled:
        return filled.array, affine
    image = reader.Execute()  # numbers as text, several a voxel, of an order that is not said
    data = np.moveaxis(sitk.GetArrayViewFromImage(image), (0, 1, 2), (2, 1, 0))  # it was (K, J, I) or (K, J, I, C)
    voxels = Voxels(data.shape, affine, whole=whole)
    voxels.put(..., data)
    return voxels.array, affine


def _kind(promise: _Promise, reader: sitk.ImageFileReader) -> np.dtype | None:
    """The numbers of a file whose bytes are one number a voxel, one after the other; None for other files.

    ITK would read these as well, but holds them all while they are put in order, which takes the scan twice.
    """
    kind = np.dtype(_KINDS.get(reader.GetPixelID(), "V"))
    is_known = kind.itemsize == promise.item_bytes and (promise.order or kind.itemsize == 1)
    is_plain = promise.packing != "text" and math.prod(promise.sizes) == math.prod(reader.GetSize())
    return kind.newbyteorder(promise.order or "=") if is_known and is_plain else None


def ras_affine(source: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """Voxels to RAS world millimetres, (4, 4), of an image or of a reader that has read the header."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(source.GetDirection(), (3, 3)) * np.asarray(source.GetSpacing())
    affine[:3, 3] = source.GetOrigin()
    return LPS_TO_RAS @ affine


def is_unplaced(path: Path) -> bool:
    """Whether the header says nothing of orientation, so that axes are taken to run to left, posterior, superior."""
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER_BYTES)
    return _ORIENTATION.search(head) is None


def data_files(path: Path) -> list[Path]:
    """The header's own file and the data files that it names.

    Raises:
        ScanError: See `read_itk`.
    """
    return [path, *(file for file in _confined(_promise(path), path) if file != path)]


def _promise(path: Path) -> _Promise:
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER_BYTES)
    try:
        return _nrrd(head) if path.suffix.lower() in (".nrrd", ".nhdr") else _meta(head)
    except (LookupError, ValueError) as error:
        raise ScanError(Reason.UNREADABLE, path, f"the header cannot be read ({error}); copy it again") from None


def _nrrd(head: bytes) -> _Promise:
    if not head.startswith(b"NRRD000"):
        raise ValueError("it does not begin with NRRD000")
    end = re.search(rb"\r?\n\r?\n", head)
    lines = head[: end.start() if end else len(head)].decode("utf-8", "surrogateescape").splitlines()
    fields: dict[str, str] = {}
    files: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        key, mark, value = line.partition(":")
        if line.startswith("#") or not mark or value.startswith("="):
            continue
        fields[key.strip().lower().replace(" ", "")] = value.strip()
        if value.split() and value.split()[0] == "LIST":
            files = [name.strip() for name in lines[number:]]
            break
    kind = set(fields["type"].lower().replace("_t", "").split()) - {"signed", "unsigned", "int"}
    item_bytes = _NRRD_BYTES[" ".join(kind)]
    encoding = fields["encoding"].lower()
    packing = _PACKING.get(encoding, "" if encoding == "raw" else "text")
    named = fields.get("datafile", "")
    if pattern := re.fullmatch(r"(\S*%\d*d\S*) (-?\d+) (-?\d+) (-?\d+)(?: \d+)?", named):
        files = _numbered(pattern[1], int(pattern[2]), int(pattern[3]), int(pattern[4]))
    elif named and not files:
        files = [named]
    sizes = [int(value) for value in fields["sizes"].split()]
    if len(sizes) != int(fields["dimension"]) or min(sizes) < 1:
        raise ValueError("sizes and dimension disagree")
    skip = int(fields.get("byteskip", "0"))
    if int(fields.get("lineskip", "0")) or (skip and packing):
        raise ValueError("lines or packed bytes are to be skipped; write the file anew")
    order = _ORDER.get(fields.get("endian", "").lower(), "")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "").lower()))
    if others := units - {"", "mm", "millimeter", "millimeters"}:
        raise ValueError(f"its space units are {', '.join(sorted(others))}; write it in mm")
    directions = re.findall(r"\([^)]*\)", fields.get("spacedirections", ""))
    spacings = [word for word in directions or fields.get("spacings", "").split() if "nan" not in word.lower()]
    is_spaced = len(spacings) >= 3  # an axis of components has none
    return _Promise(sizes, item_bytes, packing, files, end.end() if end else len(head), skip, order, is_spaced)


def _meta(head: bytes) -> _Promise:
    fields: dict[str, str] = {}
    read = 0
    for line in head.splitlines(keepends=True):
        read += len(line)
        key, mark, value = line.decode("utf-8", "surrogateescape").partition("=")
        if not mark:
            raise ValueError("a line without =")
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    sizes = [int(value) for value in fields["dimsize"].split()]
    if len(sizes) != int(fields["ndims"]) or min(sizes) < 1:
        raise ValueError("DimSize and NDims disagree")
    sizes.append(int(fields.get("elementnumberofchannels", "1")))
    kind = fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")
    item_bytes = _META_BYTES[kind if kind in _META_BYTES else kind.replace("U", "", 1)]
    is_text = fields.get("binarydata", "true").lower() == "false"
    packing = "zlib" if fields.get("compresseddata", "false").lower() == "true" else "text" if is_text else ""
    named = fields["elementdatafile"]
    files: list[str] = []
    if named.upper().startswith("LIST"):
        files = [line.decode("utf-8", "surrogateescape").strip() for line in head[read:].splitlines() if line.strip()]
    elif pattern := re.fullmatch(r"(\S*%\d*d\S*) (\d+) (\d+)(?: (\d+))?", named):
        files = _numbered(pattern[1], int(pattern[2]), int(pattern[3]), int(pattern[4] or 1))
    elif named.upper() != "LOCAL":
        files = [named]
    order = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "")).lower()
    skip, order = int(fields.get("headersize", "0")), _ORDER.get(order, "")
    is_spaced = not fields.keys().isdisjoint(("elementspacing", "elementsize"))
    return _Promise(sizes, item_bytes, packing, files, read, skip, order, is_spaced)


def _numbered(pattern: str, first: int, last: int, step: int) -> list[str]:
    numbers = range(first, last + (1 if step > 0 else -1), step)
    if len(numbers) > _MOST_FILES:
        raise ValueError(f"it names {len(numbers)} files")
    return [pattern % number for number in numbers]


def _confined(promise: _Promise, path: Path) -> list[Path]:
    """The data files; a header must not make anybody read what it likes."""
    folder = path.parent.resolve()
    found = []
    for name in promise.files:
        file = path.parent / name
        if Path(name).is_absolute() or "\\" in name or not file.resolve().is_relative_to(folder):
            raise ScanError(
                Reason.OUTSIDE, path, "names a data file outside its own folder; put the data file beside the header"
            )
        if not file.is_file():
            raise ScanError(Reason.TRUNCATED, path, "its data file is missing; copy it too")
        found.append(file)
    return found or [path]


def _start(promise: _Promise, file: Path, num_files: int, path: Path) -> int:
    """Where a data file's voxels begin; refuses one that is not as long as the header says, as far as that shows."""
    promised, rest = divmod(promise.num_bytes, num_files)
    if rest:
        raise ScanError(
            Reason.INCONSISTENT,
            path,
            f"{promise.num_bytes:,} bytes do not divide over {num_files} files; copy it again",
        )
    start = promise.skip if promise.skip > 0 else 0
    start += 0 if promise.files else promise.header_bytes
    size = file.stat().st_size
    if promise.packing == "text":
        if size - start < promised // promise.item_bytes:  # a digit each, at the very least
            raise ScanError(Reason.TRUNCATED, path, "fewer characters than the header promises voxels; copy it again")
    elif promise.packing:
        if promise.packing != "bz2":
            check_packed(promised, size - start, path)
    elif promise.skip >= 0:
        check_size(promised, size - start, path)
    else:  # a skip of -1: the voxels are the file's last bytes
        if size < promised:
            check_size(promised, size, path)
        start = size - promised
    return start
