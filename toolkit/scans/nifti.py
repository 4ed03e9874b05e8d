"""NIfTI: the header held against the file, gzip read to its end, the rest as nibabel does it."""

import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from toolkit.scans.orientation import check_affine
from toolkit.scans.promises import (
    CHUNK_BYTES,
    check_packed,
    check_size,
    check_voxels,
    damage,
    unpack,
    unpacked_chunks,
)
from toolkit.scans.reasons import COLOUR, Reason, ScanError
from toolkit.scans.voxels import FileVoxels

SUFFIXES = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (I, J, K) or (I, J, K, C), scaled, and the affine to world millimetres.

    The affine is nibabel's choice: sform where its code is set, else qform, else spacing alone (`is_unplaced` tells).

    Args:
        path: The file.
        whole: See `Voxels`.

    Raises:
        ScanError: The file is not as long as its header says, packed data are damaged, or there are two files.
    """
    header, is_packed = _read_header(path)
    size, promised = path.stat().st_size, _promised_bytes(header, path)
    (check_packed if is_packed else check_size)(promised, size, path)
    affine = header_affine(header)
    _check_agreement(header, affine, _MM[header.get_xyzt_units()[0]], path)
    check_affine(affine, path)
    voxels = _empty(header, affine, path, whole)
    with path.open("rb") as file:
        unpack(unpacked_chunks(file, "gzip" if is_packed else ""), promised, path, voxels.add)
    return voxels.array, affine


def read_header(path: Path) -> nib.Nifti1Header:
    """The header alone, of a file that is packed or not, whatever its name says.

    Raises:
        ScanError: It is no NIfTI header.
    """
    return _read_header(path)[0]


def header_affine(header: nib.Nifti1Header) -> np.ndarray:
    """Voxels to world millimetres, (4, 4)."""
    unit = _MM[header.get_xyzt_units()[0]]
    affine: np.ndarray = np.diag([unit, unit, unit, 1.0]) @ header.get_best_affine()
    return affine


def is_unplaced(path: Path) -> bool:
    """Whether the header says nothing of orientation and position (sform and qform codes are both 0)."""
    header = read_header(path)
    return int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0


def _empty(header: nib.Nifti1Header, affine: np.ndarray, path: Path, whole: bool) -> FileVoxels:
    """What the file's bytes, header and all, are to be added to."""
    shape, kind = header.get_data_shape(), header.get_data_dtype()
    if kind.kind in "cV":
        raise ScanError(Reason.NOT_A_VOLUME, path, COLOUR)
    if len(shape) < 3:
        raise ScanError(Reason.NOT_A_VOLUME, path, f"{len(shape)} dimensions where a volume has 3; keep one volume")
    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise ScanError(Reason.INCONSISTENT, path, f"slope or intercept make no sense ({error}); mend them") from None
    scale = None if (slope, inter) in ((None, None), (1, 0)) else (np.float32(slope), np.float32(inter))
    return FileVoxels(shape, affine, kind, scale=scale, skip=header.get_data_offset(), whole=whole)


def _read_header(path: Path) -> tuple[nib.Nifti1Header, bool]:
    """The header, and whether the file is packed."""
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        if path.name.lower().endswith(".gz") and not is_packed:
            raise ScanError(
                Reason.UNREADABLE, path, "is not the gzip file that its name says, or damaged; copy it again"
            )
        head = _packed_head(file, path) if is_packed else file.read(_HEADER_BYTES)
    return _header(head, path), is_packed


def _packed_head(file: io.BufferedReader, path: Path) -> bytes:
    head = b""
    try:
        for chunk in unpacked_chunks(file, "gzip"):
            head += chunk
            if len(head) >= _HEADER_BYTES:
                break
    except EOFError:
        pass  # short: the header's own check says so, or the whole is read again
    except (OSError, zlib.error) as error:
        raise damage(error, path) from None
    return head[:CHUNK_BYTES]


def _header(head: bytes, path: Path) -> nib.Nifti1Header:
    if len(head) < 348:
        raise ScanError(Reason.TRUNCATED, path, f"{len(head)} bytes where a NIfTI header has 348; copy it again")
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind = nib.Nifti2Header if 540 in sizes else nib.Nifti1Header
    magic = head[4:8] if 540 in sizes else head[344:348]
    if not sizes & {348, 540}:
        raise ScanError(Reason.UNREADABLE, path, "does not begin as a NIfTI header does; copy it again")
    if magic[:3] in (b"ni1", b"ni2"):
        raise ScanError(Reason.UNSUPPORTED, path, "header and voxels are two files; save it as one .nii")
    if magic[:3] not in (b"n+1", b"n+2"):
        raise ScanError(Reason.UNREADABLE, path, "has no NIfTI magic; copy or convert it again")
    try:
        return kind.from_fileobj(io.BytesIO(head))
    except Exception as error:  # nibabel has an error for each field, and NumPy's besides
        raise ScanError(Reason.INCONSISTENT, path, f"the header cannot be read ({error}); copy it again") from None


def _promised_bytes(header: nib.Nifti1Header, path: Path) -> int:
    num_dims = int(header["dim"][0])
    dims = [int(value) for value in header["dim"][1 : num_dims + 1]]
    offset = int(header["vox_offset"])
    if not 1 <= num_dims <= 7 or min(dims) < 1 or offset < int(header["sizeof_hdr"]):
        raise ScanError(
            Reason.INCONSISTENT, path, f"dimensions {dims} or the voxels' offset are impossible; copy it again"
        )
    num_voxels = int(np.prod(dims, dtype=object))
    check_voxels(num_voxels, path)
    item = header.get_data_dtype()
    if item.itemsize * 8 != int(header["bitpix"]):
        raise ScanError(
            Reason.INCONSISTENT, path, f"{header['bitpix']} bits a voxel do not go with type {item}; copy it again"
        )
    return offset + num_voxels * item.itemsize


def _check_agreement(header: nib.Nifti1Header, affine: np.ndarray, unit: float, path: Path) -> None:
    """Where the header says the same twice, both must agree, or one of them is damaged.

    A sform in scanner coordinates (code 1) does not scale, so that its spacing is pixdim's; and a qform in them
    too puts every corner in the same place.
    """
    if int(header["sform_code"]) == 1:
        said = np.abs(np.asarray(header["pixdim"][1:4], float)) * unit
        found = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if not np.allclose(said, found, rtol=0.02, atol=1e-3):
            spacings = " and ".join("x".join(f"{value:.4g}" for value in some) for some in (said, found))
            raise ScanError(Reason.INCONSISTENT, path, f"pixdim and sform give two spacings, {spacings} mm; repair one")
    if int(header["sform_code"]) == int(header["qform_code"]) == 1:  # aligned ones often keep an old qform
        size = np.asarray(header["dim"][1:4], float)
        corners = np.array([*np.ndindex(2, 2, 2)]) * (size - 1)
        apart = nib.affines.apply_affine(header.get_sform(), corners) - nib.affines.apply_affine(
            header.get_qform(), corners
        )
        if not np.abs(apart).max() <= 0.5 * np.abs(header["pixdim"][1:4]).max():  # NaN is no agreement either
            raise ScanError(Reason.INCONSISTENT, path, "qform and sform of one code differ; set one of them")
