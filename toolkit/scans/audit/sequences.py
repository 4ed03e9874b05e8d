"""From what somebody typed at the scanner to a sequence's short name; the text itself is kept nowhere."""

import re

_RULES = [
    ("SWI", r"swi|swan|susc|suscept\w*|venobold|qsm"),
    ("ADC", r"adc|apparent"),
    ("DWI", r"dwi|dti|diff|diffusion|trace\w*|b ?1000|ep2d diff|hardi|dki"),
    ("ASL", r"asl|pcasl|pasl|perf|perfusion|cbf|dsc|dce"),
    ("BOLD", r"bold|fmri|rest|resting|task|epi bold"),
    ("MRA", r"tof|mra|mrv|angio\w*|venogra\w*"),
    ("FLAIR", r"(?:t2 ?)?(?:\w*flair|tirm dark\w*|dark ?fluid)"),
    ("STIR", r"stir|tirm"),
    ("T2*", r"t2 ?star|t2s|t2 ?gre|gre t2|t2 fl2d|hemo|medic|merge"),
    ("PD", r"pd|pdw|proton|proton density"),
    ("T1", r"t1|t1w|t1wi|mp ?rage|mprage\w*|mp2rage|spgr|fspgr|bravo|tfl|vibe|lava|ir ?fspgr|t1 \w+"),
    ("T2", r"t2|t2w|t2wi|t2 \w+|haste|ssfse|ciss|fiesta|space|tse|fse|blade|propeller"),
]
_CONTRAST = re.compile(r"\b(?:t1 ?ce|t1 ?c|t1 ?gd|ce|gd|gad\w*|contrast|post\w*|km|cm|dotarem)\b|\+ ?c\b")
_NO_CONTRAST = re.compile(r"\b(?:pre|non|no|without|ohne|nativ\w*)\b")
_PATTERNS = [(name, re.compile(rf"\b(?:{pattern})\b")) for name, pattern in _RULES]
_T1_FLAIR = re.compile(r"\bt1\b.*flair")
_LOCALISER = re.compile(
    r"\b(?:locs?|locali[sz]er\w*|scouts?|scano\w*|topo\w*|surview\w*|survey\w*|3 ?(?:pl|plane)\w*|calib\w*|ref ?scan)\b"
)


def sequence_name(description: str, *, contrast: bool = False) -> str:
    """T1, T1C (with contrast agent), T2, T2*, FLAIR, STIR, PD, DWI, ADC, SWI, MRA, ASL, BOLD, or "" where no rule fits.

    Args:
        description: DICOM's SeriesDescription and ProtocolName, or a file's name without suffix.
        contrast: Whether a contrast agent is named elsewhere.
    """
    text = _plain(description)
    for name, pattern in _PATTERNS:
        if pattern.search(text):
            if name == "FLAIR" and _T1_FLAIR.search(text):
                name = "T1"
            if name == "T1" and (contrast or _CONTRAST.search(text)) and not _NO_CONTRAST.search(text):
                return "T1C"
            return name
    return "T1C" if _CONTRAST.search(text) and "t1" in text else ""


def is_localiser(description: str, image_type: tuple[str, ...]) -> bool:
    """Whether a series only helps to plan others: by DICOM's ImageType, or by what it is called."""
    return "LOCALIZER" in map(str.upper, image_type) or bool(_LOCALISER.search(_plain(description)))


def _plain(description: str) -> str:
    # fl2d, T1w and t1ce stay whole; underscores, dots and camel case part words.
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", description)
    return " ".join(re.findall(r"[a-z0-9+]+", parted.casefold().replace("*", " star ").replace("t2 star", "t2star")))
