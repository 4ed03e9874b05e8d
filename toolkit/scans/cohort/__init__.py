"""Cohorts of made-up people for tests and for scale: heads, sites, lesions, written as scanners export them."""

from toolkit.scans.cohort.config import CohortConfig, LesionConfig
from toolkit.scans.cohort.encoding import PLANES
from toolkit.scans.cohort.nifti import write_nifti
from toolkit.scans.cohort.series import write_series
from toolkit.scans.cohort.synthesis import synthesize

__all__ = ["PLANES", "CohortConfig", "LesionConfig", "synthesize", "write_nifti", "write_series"]
