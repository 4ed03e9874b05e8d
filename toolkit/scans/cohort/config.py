"""What a made-up cohort is like."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from toolkit.config import Section

Share = Annotated[float, Field(ge=0, le=1)]
Millilitres = Annotated[float, Field(gt=0, le=200)]
Kind = Literal["bright_sharp", "bright_diffuse", "dark_sharp", "dark_diffuse"]
Sequence = Literal["T1", "T2", "FLAIR"]


class LesionConfig(Section):
    """The lesions: how many people have one, and what it looks like."""

    prevalence: Share = 0.5
    """Share of the people who have one."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("bright_sharp",)
    """Drawn from these, equally often: brighter or darker than the tissue on every sequence, with an edge of half a
    millimetre or one that fades out."""
    volume_ml: tuple[Millilitres, Millilitres] = (2.0, 10.0)
    """Limits of the volume, drawn evenly on a logarithmic scale."""
    region: Literal["anywhere", "white_matter", "cortex", "left", "right"] = "anywhere"
    """Where in the brain the centre may lie."""
    contrast: float = Field(0.4, gt=0, le=1)
    """Change of intensity at its centre; white matter on T1 is about 0.85."""
    growth: float = Field(1.15, gt=0)
    """Factor of the volume from one session to the next."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.volume_ml[0] > self.volume_ml[1]:
            raise ValueError("volume_ml: the second must not be below the first")
        return self


class CohortConfig(Section):
    """People, sites, sessions and sequences of a made-up cohort. Everything follows from `seed`."""

    num_subjects: int = Field(20, ge=1, le=99_999)
    """People. Subject 7 is the same however many there are, so that a cohort can be made larger later."""
    seed: int = Field(0, ge=0)
    """Everything random follows from it."""
    format: Literal["dicom", "nifti"] = "dicom"
    """DICOM series in folders as a PACS exports them, or NIfTI files named as in BIDS."""
    brain: Literal["demo", "parametric"] = "demo"
    """Heads to deform: the three of the cards head_templates and head_single, or built-in ones of ellipsoids, which
    show nobody and need no network."""
    num_sites: int = Field(3, ge=1, le=99)
    """Hospitals, each with its own scanner: bias field, noise, resolution, slice thickness, contrast, planes."""
    num_sessions: int = Field(1, ge=1, le=99)
    """Visits of each person, half a year apart: nearly the same anatomy, another pose."""
    spacing_mm: float = Field(2.0, ge=0.8, le=8)
    """Finest voxel size; a site's own is up to 1.2 times as coarse in the plane, its slices up to twice as thick."""
    sequences: Annotated[tuple[Sequence, ...], Field(min_length=1)] = ("T1", "T2")
    """Sequences of each study, all in one pose."""
    missing: Share = 0.1
    """How often a sequence after the first is missing from a study."""
    shortcut: Share = 0.0
    """Correlation between having a lesion and being scanned at the first half of the sites."""
    lesion: LesionConfig = LesionConfig()
    """The lesions."""
    names_in_files: bool = False
    """Put made-up names into file and folder names, and into NIfTI headers, to test that no tool passes them on."""
    multiframe: bool = False
    """Write each DICOM series as one enhanced multi-frame file."""

    @model_validator(mode="after")
    def _shortcut_can_be_had(self) -> Self:
        if len(set(self.sequences)) < len(self.sequences):
            raise ValueError("sequences: name each one once")
        rich, poor = self.lesion_rates
        if rich > 1 + 1e-9 or poor < -1e-9:
            share = rich_share(self.num_sites)
            rate = self.lesion.prevalence
            odds = np.sqrt(rate * (1 - rate)) * np.array([np.sqrt((1 - share) / share), np.sqrt(share / (1 - share))])
            most = min((1 - rate) / odds[0], rate / odds[1])
            raise ValueError(
                f"shortcut: with {self.num_sites} sites and a prevalence of {rate:g} the correlation is at most "
                f"{most:.2f}; an even number of sites and a prevalence of 0.5 allow 1"
            )
        return self

    @property
    def lesion_rates(self) -> tuple[float, float]:
        """Share of people with a lesion at the first half of the sites and at the others."""
        rate, share = self.lesion.prevalence, rich_share(self.num_sites)
        if self.shortcut == 0:
            return rate, rate
        if share == 0:
            raise ValueError("shortcut: needs two sites at least")
        # For two yes-or-no variables the correlation is the covariance over both deviations.
        covariance = self.shortcut * float(np.sqrt(rate * (1 - rate) * share * (1 - share)))
        return rate + covariance / share, rate - covariance / (1 - share)


def rich_share(num_sites: int) -> float:
    """Share of the sites, the first ones, where a shortcut puts the lesions."""
    return (num_sites // 2) / num_sites
