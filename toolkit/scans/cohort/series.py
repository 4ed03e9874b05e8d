"""Writes a volume as a DICOM series, one file a slice or one enhanced multi-frame file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans.cohort.encoding import as_acquired, quantise
from toolkit.scans.volumes import Volume

Modality = Literal["MR", "CT"]
_CLASSIC = {"MR": MRImageStorage, "CT": CTImageStorage}
_ENHANCED = {"MR": EnhancedMRImageStorage, "CT": EnhancedCTImageStorage}
_PATIENT = {
    "PatientID": "FAKE-00000", "PatientName": "MADEUP^Nobody", "PatientBirthDate": "19000101", "PatientSex": "O",
    "AccessionNumber": "FAKEACC00000", "StudyID": "1", "StudyDate": "20200101", "StudyTime": "120000",
    "StudyDescription": "SYNTHETIC head", "ReferringPhysicianName": "MADEUP^Referrer",
    "InstitutionName": "MADEUP Hospital", "Manufacturer": "MADEUP Scanners", "ManufacturerModelName": "Phantom 1",
    "SeriesNumber": 1, "SeriesDescription": "T1", "SeriesDate": "20200101", "SeriesTime": "120000",
    "PositionReferenceIndicator": "", "PatientPosition": "HFS", "BurnedInAnnotation": "NO",
}  # fmt: skip
_SCANNER: dict[str, dict[str, Any]] = {
    "MR": {
        "ScanningSequence": "GR", "SequenceVariant": "SP", "ScanOptions": "", "MRAcquisitionType": "3D",
        "EchoTime": "3", "RepetitionTime": "2000", "EchoTrainLength": 1, "MagneticFieldStrength": "3",
    },
    "CT": {"KVP": "120", "ConvolutionKernel": "STANDARD"},
}  # fmt: skip
_IMAGE_TYPE = {"MR": ["ORIGINAL", "PRIMARY", "M", "ND"], "CT": ["ORIGINAL", "PRIMARY", "AXIAL"]}


def write_series(
    volume: Volume,
    folder: str | Path,
    *,
    axes: str = "axial",
    modality: Modality = "MR",
    tags: Mapping[str, Any] | None = None,
    seed: int = 0,
    rescale: tuple[float, float] | None = None,
    shuffled: bool = False,
    multiframe: bool = False,
) -> str:
    """Writes one volume as a DICOM series. The same arguments give the same bytes.

    Args:
        volume: One channel; its affine may be oblique, not sheared. Hounsfield units for CT.
        folder: Made if missing. The files are `IM00001.dcm` and so on, by instance number.
        axes: `axial`, `sagittal`, `coronal`, or where columns, rows and slices run to: `LPS` is the usual axial
            one, `RPS` its mirror image, `LPI` the same slices from the top down.
        modality: `MR` or `CT`.
        tags: DICOM keywords and values that replace or join the made-up ones, in every file:
            `{"PatientID": "FAKE-7", "AccessionNumber": "FAKE8", "SeriesDescription": "FLAIR"}`.
        seed: UIDs follow from it, patient, accession number, series number and description. Series of one patient
            and accession number share their study.
        rescale: Slope and intercept; see `quantise` for what is taken by default.
        shuffled: Number the instances (or order the frames) at random, as some exports do.
        multiframe: One file with all slices: Enhanced MR or CT Image Storage.

    Returns:
        The series instance UID.

    Raises:
        DataError: Several channels, a sheared affine, intensities that do not fit 16 bits, unknown keywords.
    """
    folder = Path(folder)
    array, affine = as_acquired(volume, axes)
    stored, slope, intercept = quantise(array, modality, rescale)
    frames = np.ascontiguousarray(stored.transpose(2, 1, 0)).astype("<i2")  # (slices, rows, columns)
    geometry = _Geometry(affine)
    header = _header(frames, modality, tags or {}, seed)
    order = np.arange(len(frames))
    if shuffled:
        order = np.random.default_rng([seed, len(frames)]).permutation(len(frames))
    folder.mkdir(parents=True, exist_ok=True)
    value = Dataset()
    value.RescaleIntercept, value.RescaleSlope = _ds(intercept), _ds(slope)
    value.RescaleType = "HU" if modality == "CT" else "US"
    if multiframe:
        _enhance(header, modality, geometry, value, order)
        header.PixelData = frames[order].tobytes()
        _save(header, _ENHANCED[modality], folder, 1, tags or {})
    else:
        header.update(value)
        header.PixelSpacing, header.ImageOrientationPatient = geometry.pixel_spacing, geometry.orientation
        header.SliceThickness = header.SpacingBetweenSlices = geometry.slice_distance
        for number, index in enumerate(order.tolist(), start=1):
            header.ImagePositionPatient = geometry.position(index)
            header.PixelData = frames[index].tobytes()
            _save(header, _CLASSIC[modality], folder, number, tags or {})
    return str(header.SeriesInstanceUID)


class _Geometry:
    """An affine (RAS, voxel axes columns, rows, slices) in DICOM's words, left-posterior-superior."""

    def __init__(self, affine: np.ndarray) -> None:
        self._affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(self._affine[:3, :3], axis=0)
        directions = self._affine[:3, :3] / spacing
        if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-4:
            raise DataError("the affine is sheared, which no DICOM series can say; resample the volume first")
        self.pixel_spacing = [_ds(spacing[1]), _ds(spacing[0])]  # between rows, then between columns
        self.slice_distance = _ds(spacing[2])
        self.orientation = [_ds(value) for value in (*directions[:, 0], *directions[:, 1])]

    def position(self, index: int) -> list[DSfloat]:
        return [_ds(value) for value in (self._affine @ [0, 0, index, 1])[:3]]


def _header(frames: np.ndarray, modality: Modality, tags: Mapping[str, Any], seed: int) -> Dataset:
    """All that the files of the series share, but geometry."""
    for keyword in tags:
        if tag_for_keyword(keyword) is None:
            raise DataError(f"tags: no DICOM keyword {keyword!r}; {nearest(keyword, list(_PATIENT))}")
    header = Dataset()
    values = _PATIENT | {"Modality": modality, "ImageType": _IMAGE_TYPE[modality]} | _SCANNER[modality] | dict(tags)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    study = f"{seed}|{header.PatientID}|{header.AccessionNumber}"
    header.StudyInstanceUID = tags.get("StudyInstanceUID") or _uid("study", study)
    header.FrameOfReferenceUID = tags.get("FrameOfReferenceUID") or _uid("frame", study)
    series = f"{header.StudyInstanceUID}|{header.SeriesNumber}|{header.SeriesDescription}"
    header.SeriesInstanceUID = tags.get("SeriesInstanceUID") or _uid("series", series)
    header.Rows, header.Columns, header.SamplesPerPixel = frames.shape[1], frames.shape[2], 1
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    return header


def _enhance(header: Dataset, modality: Modality, geometry: _Geometry, value: Dataset, order: np.ndarray) -> None:
    """Adds the functional groups: what all frames share, and where each lies."""
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = geometry.pixel_spacing
    measures.SliceThickness = measures.SpacingBetweenSlices = geometry.slice_distance
    plane.ImageOrientationPatient = geometry.orientation
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    shared.PixelValueTransformationSequence = Sequence([value])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    dimension = Dataset()
    dimension.DimensionOrganizationUID = _uid("dimension", str(header.SeriesInstanceUID))
    header.DimensionOrganizationSequence = Sequence([dimension])
    index = Dataset()
    index.DimensionOrganizationUID = dimension.DimensionOrganizationUID
    index.DimensionIndexPointer = tag_for_keyword("InStackPositionNumber")
    index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    header.DimensionIndexSequence = Sequence([index])
    frames = []
    for slice_index in order.tolist():
        content, position, frame = Dataset(), Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", slice_index + 1
        content.DimensionIndexValues = [slice_index + 1]
        position.ImagePositionPatient = geometry.position(slice_index)
        frame.FrameContentSequence, frame.PlanePositionSequence = Sequence([content]), Sequence([position])
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = Sequence(frames)
    header.NumberOfFrames = len(frames)
    header.ContentDate, header.ContentTime = header.StudyDate, header.StudyTime
    header.PresentationLUTShape, header.LossyImageCompression = "IDENTITY", "00"
    if modality == "MR":
        header.AcquisitionContrast, header.ComplexImageComponent = "T1", "MAGNITUDE"


def _save(header: Dataset, sop_class: str, folder: Path, number: int, tags: Mapping[str, Any]) -> None:
    header.InstanceNumber = number
    header.SOPClassUID = sop_class
    header.SOPInstanceUID = _uid("instance", f"{header.SeriesInstanceUID}|{number}")
    for keyword, value in tags.items():  # what the caller says goes before what was worked out
        setattr(header, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta = meta
    header.save_as(folder / f"IM{number:05d}.dcm", enforce_file_format=True)


def _uid(kind: str, identity: str) -> str:
    return generate_uid(entropy_srcs=[f"{kind}|{identity}"])


def _ds(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
