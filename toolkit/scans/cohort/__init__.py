"""Cohorts of made-up people for tests and for scale: heads, sites, lesions, written as scanners export them."""

from toolkit.scans.cohort.encoding import PLANES
from toolkit.scans.cohort.nifti import write_nifti
from toolkit.scans.cohort.series import write_series

__all__ = ["PLANES", "write_nifti", "write_series"]
