"""Anatomies and lesions: bent without folds, of the volume asked for, where they may be."""

import numpy as np
import pytest

from toolkit.scans.cohort import CohortConfig, LesionConfig
from toolkit.scans.cohort.anatomy import Anatomy, anatomy
from toolkit.scans.cohort.heads import Head, heads
from toolkit.scans.cohort.lesions import Lesion, lesion, mask_and_strength

GRID = np.array([[4.0, 0, 0, -90], [0, 4, 0, -130], [0, 0, 4, -75], [0, 0, 0, 1]])
SHAPE = (46, 56, 46)


@pytest.fixture(scope="module")
def phantoms() -> tuple[Head, ...]:
    return heads("parametric", 6.0)


def one(config: CohortConfig, phantoms: tuple[Head, ...], number: int = 1) -> tuple[Anatomy, Lesion, np.ndarray]:
    body = anatomy(config, number, 1, phantoms)
    return body, lesion(config, number, 1, body), body.tissue(GRID, SHAPE)


def test_a_phantom_has_air_skull_grey_and_white(phantoms: tuple[Head, ...]) -> None:
    for head in phantoms:
        t1, brain = head.tissue
        assert t1[0, 0, -1] < 1e-6
        assert 900 < (brain > 0.5).sum() * 6.0**3 / 1000 < 1900  # ml
        assert (t1[brain > 0.9] > 0.78).mean() > 0.3
    assert len({head.tissue.tobytes() for head in phantoms}) == 3


def test_no_anatomy_folds_and_no_two_are_alike(phantoms: tuple[Head, ...]) -> None:
    config = CohortConfig(brain="parametric")
    bodies = [anatomy(config, number, 1, phantoms) for number in range(1, 7)]
    for body in bodies:
        assert body.jacobian_min == body.deformation.jacobian().min() > 0
    scans = [body.tissue(GRID, SHAPE)[0].ravel() for body in bodies]
    between = np.corrcoef(scans)[np.triu_indices(6, 1)]
    assert between.max() < 0.97


def test_a_flow_that_squeezes_too_much_is_made_weaker(
    phantoms: tuple[Head, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CohortConfig(brain="parametric")
    mild = anatomy(config, 1, 1, phantoms)
    monkeypatch.setattr("toolkit.scans.cohort.anatomy._LOBES", ((20.0, 25.0),))
    wild = anatomy(config, 1, 1, phantoms)
    assert 0.2 < wild.jacobian_min < 0.5
    assert np.abs(wild.deformation.displacement).max() > np.abs(mild.deformation.displacement).max()


def test_sessions_of_a_person_are_nearly_the_same(phantoms: tuple[Head, ...]) -> None:
    config = CohortConfig(brain="parametric")
    first, second, other = (anatomy(config, *who, phantoms) for who in ((1, 1), (1, 2), (2, 1)))
    same = np.abs(first.deformation.displacement - second.deformation.displacement)
    assert 0.1 < same.max() < 4
    assert same.mean() < 0.2 * np.abs(first.deformation.displacement - other.deformation.displacement).mean()


@pytest.mark.parametrize("wanted_ml", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("region", ["anywhere", "cortex"])
def test_the_mask_has_the_volume_and_lies_in_the_brain(
    phantoms: tuple[Head, ...], wanted_ml: float, region: str
) -> None:
    settings = LesionConfig(volume_ml=(wanted_ml, wanted_ml), region=region)
    config = CohortConfig(brain="parametric", lesion=settings)
    for number in (1, 2, 3):
        body, blob, (_, brain) = one(config, phantoms, number)
        mask, strength = mask_and_strength(blob, brain, GRID, 0.064)
        assert mask.sum() * 0.064 == pytest.approx(wanted_ml, abs=0.033)
        assert (brain[mask] > 0.5).all()
        thick = GRID @ np.diag([1, 1, 2, 1])
        thick[2, 3] += 2
        coarse, _ = mask_and_strength(blob, body.tissue(thick, (46, 56, 23))[1], thick, 0.128)
        assert coarse.sum() * 0.128 == pytest.approx(wanted_ml, abs=0.065)
        centres = [affine @ [*np.argwhere(m).mean(0), 1] for affine, m in ((GRID, mask), (thick, coarse))]
        np.testing.assert_allclose(centres[0], centres[1], atol=4)
        assert strength[~mask].max() <= strength[mask].max() <= 1


@pytest.mark.parametrize(("region", "sign"), [("left", -1), ("right", 1)])
def test_the_region_is_kept(phantoms: tuple[Head, ...], region: str, sign: int) -> None:
    config = CohortConfig(brain="parametric", lesion=LesionConfig(region=region))
    for number in range(1, 6):
        assert one(config, phantoms, number)[1].centre_mm[0] * sign > 0


def test_white_matter_is_white(phantoms: tuple[Head, ...]) -> None:
    config = CohortConfig(brain="parametric", lesion=LesionConfig(region="white_matter"))
    for number in range(1, 6):
        _, blob, (t1, _) = one(config, phantoms, number)
        voxel = np.rint(np.linalg.solve(GRID, [*blob.centre_mm, 1])[:3]).astype(int)
        assert t1[tuple(slice(v - 1, v + 2) for v in voxel)].mean() > 0.65


def test_an_edge_is_sharp_or_fades(phantoms: tuple[Head, ...]) -> None:
    share = {}
    for kind in ("bright_sharp", "dark_diffuse"):
        settings = LesionConfig(kinds=(kind,), region="white_matter", volume_ml=(15, 15))
        config = CohortConfig(brain="parametric", lesion=settings)
        _, blob, (_, brain) = one(config, phantoms)
        assert np.sign(blob.contrast) == (1 if kind.startswith("bright") else -1)
        mask, strength = mask_and_strength(blob, brain, GRID, 0.064)
        outermost = strength[mask].min()
        assert 0.25 <= outermost < 0.7  # a half of the share of brain
        share[kind] = ((strength > 0.1) & (strength < 0.9)).sum() / mask.sum()
    assert share["bright_sharp"] < 0.6 < 1 < share["dark_diffuse"]


def test_a_lesion_stays_in_place_and_grows(phantoms: tuple[Head, ...]) -> None:
    config = CohortConfig(brain="parametric", lesion=LesionConfig(growth=1.5))
    body, first, _ = one(config, phantoms)
    later = lesion(config, 1, 3, body)
    np.testing.assert_array_equal(later.centre_mm, first.centre_mm)
    assert later.volume_ml == pytest.approx(first.volume_ml * 2.25)
