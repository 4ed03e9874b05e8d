"""One made-up person from design to files: every session, every sequence, masks, and what is true of them."""

from pathlib import Path
from typing import Any

import numpy as np

from toolkit.scans.cohort import scanner
from toolkit.scans.cohort.anatomy import Anatomy, anatomy
from toolkit.scans.cohort.config import CohortConfig
from toolkit.scans.cohort.design import Subject, stream, subject
from toolkit.scans.cohort.heads import Head
from toolkit.scans.cohort.lesions import Lesion, lesion, mask_and_strength
from toolkit.scans.cohort.nifti import write_nifti
from toolkit.scans.cohort.scanner import Grid, Site
from toolkit.scans.cohort.series import write_series
from toolkit.scans.volumes import Volume

SCANS, MASKS = "scans", "masks"


def write_subject(config: CohortConfig, number: int, heads: tuple[Head, ...], folder: Path) -> list[dict[str, Any]]:
    """Writes all files of one subject below `folder`, which is empty.

    Args:
        config: The cohort.
        number: Of the subject, from 1.
        heads: To deform.
        folder: Gets `scans/...` and `masks/...`.

    Returns:
        What is true of each series, one row each; see `truth.csv` of `synthesize`.
    """
    person = subject(config, number)
    site = scanner.site(config, person.site)
    first = anatomy(config, number, 1, heads)
    rows = []
    for session in range(1, config.num_sessions + 1):
        body = first if session == 1 else anatomy(config, number, session, heads)
        disease = lesion(config, number, session, first) if person.has_lesion else None
        placed = scanner.pose(stream("session", config.seed, number, session, 1))
        for index, sequence in enumerate(config.sequences):
            random = stream("series", config.seed, number, session, index)
            missing = random.random() < config.missing
            if index and missing:
                continue
            grid = scanner.grid(site, sequence, config.spacing_mm, placed, random)
            array, mask = _scan(body, disease, site, sequence, grid, random)
            row = _row(config, person, site, body, session, sequence, grid)
            row |= _lesion_facts(disease, mask, grid)
            volume = Volume(array[None], grid.affine)
            where = _write_scan(config, person, site, row, index + 1, volume, folder)
            rows.append(row | where | _write_mask(row, where["path"], volume, mask, folder))
    return rows


def _scan(
    body: Anatomy, disease: Lesion | None, site: Site, sequence: str, grid: Grid, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Intensities of one series, and the mask of the lesion on its grid."""
    fine_affine, fine_shape = grid.fine
    tissue = body.tissue(fine_affine, fine_shape)
    ideal, mask = scanner.contrast(tissue, sequence, site), None
    if disease is not None:
        voxel_ml = float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000
        _, strength = mask_and_strength(disease, tissue[1], fine_affine, voxel_ml / grid.thickness)
        # Not below fluid on T1: a dark lesion is not air.
        ideal = np.maximum(ideal + strength * disease.contrast, np.minimum(ideal, 0.08))
        brain = scanner.thicken(tissue[1], grid)
        mask, _ = mask_and_strength(disease, brain, grid.to_person @ grid.affine, voxel_ml)
    return scanner.acquire(scanner.thicken(ideal, grid), grid, site, random), mask


def _row(
    config: CohortConfig, person: Subject, site: Site, body: Anatomy, session: int, sequence: str, grid: Grid
) -> dict[str, Any]:
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return {
        "subject": person.patient_id if config.format == "dicom" else _bids_name(config, person),
        "number": person.number,
        "session": session,
        "sequence": sequence,
        "accession": person.accession(session) if config.format == "dicom" else "",
        "date": person.visit(session),
        "site": site.name,
        "scanner": f"{site.maker} {site.model}",
        "label": "lesion" if person.has_lesion else "healthy",
        "plane": site.planes[sequence],
        "spacing_mm": "x".join(f"{value:.6g}" for value in spacing),
        "shape": "x".join(map(str, grid.shape)),
        "head": body.head.name,
        "mirrored": bool(body.shape[0, 0] < 0),
        "jacobian_min": round(body.jacobian_min, 4),
        "noise": round(site.noise, 5),
        "gamma": round(site.gamma, 4),
    }


def _lesion_facts(disease: Lesion | None, mask: np.ndarray | None, grid: Grid) -> dict[str, Any]:
    """Of the mask on this series' own grid, in its world millimetres (right, anterior, superior)."""
    if disease is None or mask is None:
        return dict.fromkeys(["kind", "asked_ml", "mask_ml", "centre_r_mm", "centre_a_mm", "centre_s_mm"], "")
    centre = (grid.affine @ [*np.argwhere(mask).mean(0), 1])[:3]
    voxel_ml = float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000
    return {
        "kind": disease.kind,
        "asked_ml": round(disease.volume_ml, 4),
        "mask_ml": round(int(mask.sum()) * voxel_ml, 4),
        "centre_r_mm": round(float(centre[0]), 3),
        "centre_a_mm": round(float(centre[1]), 3),
        "centre_s_mm": round(float(centre[2]), 3),
    }


def _write_scan(
    config: CohortConfig,
    person: Subject,
    site: Site,
    row: dict[str, Any],
    series_number: int,
    volume: Volume,
    folder: Path,
) -> dict[str, str]:
    """Writes one series; its path below `folder`."""
    session, sequence, axes = row["session"], row["sequence"], row["plane"]
    if config.format == "nifti":
        who = f"sub-{row['subject']}"
        path = f"{SCANS}/{who}/ses-{session:02d}/anat/{who}_ses-{session:02d}_{sequence}.nii.gz"
        note = f"SYNTHETIC {person.patient_name} {person.patient_id}" if config.names_in_files else "SYNTHETIC"
        write_nifti(volume, folder / path, axes=axes, description=note)
        return {"path": path}
    spoken = f"{person.patient_name.replace('^', '_')}_{person.patient_id}"
    who = spoken if config.names_in_files else f"PAT{person.number:05d}"
    study = f"{row['accession']}_{row['date']}" if config.names_in_files else f"STU{session:02d}"
    path = f"{SCANS}/{who}/{study}/SER{series_number:02d}"
    tags = {
        "PatientID": person.patient_id,
        "PatientName": person.patient_name,
        "PatientBirthDate": person.birth_date,
        "PatientSex": person.sex,
        "AccessionNumber": row["accession"],
        "StudyID": str(session),
        "StudyDate": row["date"],
        "SeriesDate": row["date"],
        "SeriesNumber": series_number,
        "SeriesDescription": sequence,
        "InstitutionName": site.name,
        "Manufacturer": site.maker,
        "ManufacturerModelName": site.model,
        "MagneticFieldStrength": f"{site.field_t:g}",
    }
    write_series(
        volume, folder / path, axes=axes, tags=tags, seed=config.seed, shuffled=True, multiframe=config.multiframe
    )
    return {"path": path}


def _write_mask(
    row: dict[str, Any], path: str, volume: Volume, mask: np.ndarray | None, folder: Path
) -> dict[str, str]:
    """Writes the mask of a series, if it has one; its path below `folder`."""
    if mask is None:
        return {"mask": ""}
    place = f"{MASKS}/{path.removeprefix(SCANS + '/').removesuffix('.nii.gz')}.nii.gz"
    write_nifti(Volume(mask[None].astype(np.float32), volume.affine), folder / place, axes=row["plane"])
    return {"mask": place}


def _bids_name(config: CohortConfig, person: Subject) -> str:
    """What follows `sub-`, where only letters and digits may stand."""
    return person.patient_name.replace("^", "") if config.names_in_files else f"{person.number:05d}"
