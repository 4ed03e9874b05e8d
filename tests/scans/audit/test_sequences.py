"""What people type at scanners, and what it means."""

import pytest

from toolkit.scans.audit.sequences import is_localiser, sequence_name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("t1_mprage_sag_p2_iso", "T1"),
        ("sub-01_T1w", "T1"),
        ("3D Bravo", "T1"),
        ("T1 FLAIR", "T1"),
        ("Ax T1 pre contrast", "T1"),
        ("t1_mprage_post KM", "T1C"),
        ("BraTS_001_t1ce", "T1C"),
        ("AX T1 FSE +C", "T1C"),
        ("Ax T2 FLAIR", "FLAIR"),
        ("t2_tirm_tra_dark-fluid_3mm", "FLAIR"),
        ("t2_space_dark-fluid_sag", "FLAIR"),
        ("Sag T2 TSE", "T2"),
        ("STIR cor", "STIR"),
        ("T2* GRE", "T2*"),
        ("t2_fl2d_tra_hemo", "T2*"),
        ("AX SWAN", "SWI"),
        ("ep2d_diff_3scan_trace_p2", "DWI"),
        ("ep2d_diff_3scan_trace_p2_ADC", "ADC"),
        ("TOF_3D_multi-slab", "MRA"),
        ("pd_tse_fs_sag", "PD"),
        ("sub-1_task-rest_bold", "BOLD"),
        ("Thorax 1.0 B31f", ""),
        ("", ""),
    ],
)
def test_a_description_becomes_a_short_name(description: str, name: str) -> None:
    assert sequence_name(description) == name


def test_a_contrast_agent_named_elsewhere_counts() -> None:
    assert sequence_name("t1_mprage", contrast=True) == "T1C"
    assert sequence_name("t2_tse", contrast=True) == "T2"


@pytest.mark.parametrize(
    ("description", "image_type", "expected"),
    [
        ("localizer", (), True),
        ("Topogram 0.6 T80s", (), True),
        ("3-plane loc", (), True),
        ("T1", ("ORIGINAL", "PRIMARY", "LOCALIZER"), True),
        ("t1_mprage", ("ORIGINAL", "PRIMARY", "M"), False),
        ("located lesion", (), False),
    ],
)
def test_localisers_are_known(description: str, image_type: tuple[str, ...], expected: bool) -> None:
    assert is_localiser(description, image_type) == expected
