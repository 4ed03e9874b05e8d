"""Every file below a folder: what may be a scan, and what cannot even be opened. Links are not followed out of it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.scans.reasons import Reason, ScanError
from toolkit.scans.volumes import VOLUME_SUFFIXES

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".iso")
_UNREAD = (
    ".nii.bz2", ".nii.xz", ".nii.zst", ".mgz", ".mgh", ".mnc", ".par", ".rec", ".img", ".hdr", ".ecat", ".gipl",
    ".gipl.gz", ".brik", ".brik.gz", ".head", ".vtk", ".vti", ".img.gz",
)  # fmt: skip
_NOT_IMAGES = ("readme", "license", "lockfile", "version", "autorun", "makefile")
_JUNK = (".ds_store", "thumbs.db", "desktop.ini", "dicomdir")


def is_named_like_an_image(path: Path) -> bool:
    """Whether a name is one that scanners give DICOM files: no suffix, or a number for one."""
    has_none = not path.suffix or path.suffix[1:].isdigit()
    return has_none and not path.name.lower().startswith(_NOT_IMAGES)


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        volumes: Files whose name says NIfTI, NRRD or MetaImage.
        others: Files that may be DICOM: only their content says.
        refused: What looks like a scan and cannot be looked at.
    """

    volumes: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    refused: list[ScanError] = field(default_factory=list)


def walk(folder: Path, leave_out: Path) -> Found:
    """Lists the files below `folder`, sorted; hidden folders are passed over, unless a link leads into one.

    Args:
        folder: Resolved.
        leave_out: A folder that is not looked into: the audit's own, resolved.
    """
    found = Found()
    for path in _files(folder, leave_out, found.refused):
        name = path.name.lower()
        is_named_so = name.endswith((*VOLUME_SUFFIXES, *DICOM_SUFFIXES))
        if name in _JUNK or name.startswith("._") or (name.startswith(".") and not is_named_so):
            continue
        try:
            os.fsencode(path).decode("utf-8")
        except UnicodeDecodeError:
            found.refused.append(ScanError(Reason.FILE_NAME, path, "the name is not UTF-8; rename the file"))
            continue
        if name.endswith(_ARCHIVES):
            found.refused.append(ScanError(Reason.ARCHIVE, path, "is never unpacked here; unpack it yourself"))
        elif name.endswith(_UNREAD):
            found.refused.append(ScanError(Reason.UNSUPPORTED, path, "this format is not read; convert it to NIfTI"))
        else:
            (found.volumes if name.endswith(VOLUME_SUFFIXES) else found.others).append(path)
    found.volumes.sort(key=os.fsencode)
    found.others.sort(key=os.fsencode)
    found.refused.sort(key=lambda error: os.fsencode(error.path))
    return found


def _files(root: Path, leave_out: Path, refused: list[ScanError]) -> Iterator[Path]:
    waiting = [root]  # and no recursion: a tree may be deeper than Python's stack
    while waiting:
        here = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except PermissionError:
            refused.append(
                ScanError(Reason.NO_PERMISSION, here, "you may not list this folder; ask whom it belongs to")
            )
            continue
        except OSError as error:
            refused.append(ScanError(Reason.UNREADABLE, here, f"the folder cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                if (error := _wrong_link(path, root)) is not None:
                    refused.append(error)
                else:
                    yield path
            elif entry.is_dir():
                if entry.name.startswith(".") or path == leave_out:
                    continue
                if entry.name.lower().endswith((*VOLUME_SUFFIXES, *DICOM_SUFFIXES)):
                    refused.append(ScanError(Reason.NOT_A_FILE, path, "is a folder that is named like a scan"))
                waiting.append(path)
            elif not entry.is_file():
                refused.append(ScanError(Reason.NOT_A_FILE, path, "is a pipe, socket or device; reading it could hang"))
            else:
                yield path


def _wrong_link(path: Path, root: Path) -> ScanError | None:
    """Why a link is not followed; only one to a file in a hidden folder is, which is how git-annex keeps its data."""
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        return ScanError(Reason.BROKEN_LINK, path, "leads nowhere; mend or remove the link")
    except (OSError, RuntimeError):  # ELOOP; Python 3.11 and 3.12 raise RuntimeError
        return ScanError(Reason.SYMLINK_LOOP, path, "leads round in a circle; remove the link")
    if target.is_dir() and path.is_relative_to(target):
        return ScanError(Reason.SYMLINK_LOOP, path, "leads back to a folder that holds it; remove the link")
    if not target.is_relative_to(root):
        return ScanError(Reason.OUTSIDE, path, "leads out of the folder; audit the place where the data lie")
    is_hidden = any(part.startswith(".") for part in target.relative_to(root).parts)
    if target.is_file() and is_hidden:
        return None
    return ScanError(Reason.DUPLICATE, path, "leads to another place in the folder, which is looked at there")
