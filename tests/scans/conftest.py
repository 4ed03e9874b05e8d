"""Small made-up scans."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from toolkit.scans import Volume

SeriesWriter = Callable[..., str]


@pytest.fixture
def ramp() -> Volume:
    """A volume whose intensity is a linear function of world position: interpolation reproduces it."""
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-10.0, 5.0, 20.0]
    indices = np.stack(np.meshgrid(*map(np.arange, (20, 16, 12)), indexing="ij"), -1)
    world = indices @ affine[:3, :3].T + affine[:3, 3]
    return Volume((world @ [1.0, 2.0, -0.5] + 100)[None].astype(np.float32), affine)


@pytest.fixture
def textured() -> np.ndarray:
    """A smooth random volume (1, 40, 44, 48) in 0-1."""
    array = ndimage.gaussian_filter(np.random.default_rng([5]).normal(size=(40, 44, 48)), 2)
    array = (array - array.min()) / np.ptp(array)
    return array[None].astype(np.float32)


@pytest.fixture
def write_series() -> SeriesWriter:
    """Writes an axial DICOM series, one slice of 6 rows and 5 columns at each z, and gives its UID."""

    def write(folder: Path, positions: list[float], patient: str = "Doe^Jane") -> str:
        folder.mkdir(parents=True, exist_ok=True)
        uid = generate_uid()
        for number, z in enumerate(positions):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            data.SOPClassUID, data.SOPInstanceUID = (
                meta.MediaStorageSOPClassUID,
                meta.MediaStorageSOPInstanceUID,
            )
            data.SeriesInstanceUID, data.StudyInstanceUID = uid, "1.2.3"
            data.PatientID, data.Modality, data.SeriesDescription = patient, "MR", "T1"
            data.Manufacturer, data.ManufacturerModelName, data.InstitutionName = "Maker", "Model", "Hospital"
            data.ImagePositionPatient, data.ImageOrientationPatient = [-4.0, -6.0, z], [1, 0, 0, 0, 1, 0]
            data.PixelSpacing, data.SliceThickness = [2.0, 1.0], 3.0
            data.Rows, data.Columns, data.SamplesPerPixel = 6, 5, 1
            data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
            pixels = np.full((6, 5), 100 * number, np.uint16)
            pixels += np.arange(6, dtype=np.uint16)[:, None] * 10 + np.arange(5, dtype=np.uint16)
            data.PixelData = pixels.tobytes()
            # Names run against the positions: only a sort by position puts the slices right.
            data.save_as(folder / f"{900 - number}-{uid[-6:]}.dcm", enforce_file_format=True)
        return uid

    return write
