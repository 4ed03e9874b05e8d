"""How a page calls what the tables name: methods and their part in the comparison, languages, numbers."""

import math
from dataclasses import dataclass
from typing import Literal

Role = Literal["ssl", "baseline", "floor", "reference"]
NOT_RUN = "–"


@dataclass(frozen=True)
class Method:
    """A method's part in the comparison and its names for people; `{ssl}` stands for the pretraining."""

    role: Role
    scans: str
    text: str


METHODS = {
    "ssl-probe": Method("ssl", "{ssl} probe", "{ssl} probe"),
    "ssl-finetune": Method("ssl", "{ssl} fine-tuned", "{ssl} fine-tuned"),
    "raw": Method("baseline", "block means", "TF-IDF"),
    "pca": Method("baseline", "PCA", "TF-IDF + SVD"),
    "kmeans": Method("baseline", "k-means features", "k-means features"),
    "scratch": Method("baseline", "from scratch", "from scratch"),
    "random": Method("baseline", "random encoder", "random encoder"),
    "majority": Method("floor", "majority class", "majority class"),
    "position": Method("reference", "position only", "position only"),
    "external": Method("reference", "{ssl}", "{ssl}"),
}
ROLES = {"ssl": "Pretrained here", "baseline": "Baselines", "floor": "Floor", "reference": "Reference lines"}
METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "auroc": "AUROC"}
PRETRAINING = {
    "simclr": "SimCLR", "moco": "MoCo", "moco_v3": "MoCo v3", "byol": "BYOL", "simsiam": "SimSiam", "swav": "SwAV",
    "barlow_twins": "Barlow Twins", "vicreg": "VICReg", "mae": "MAE", "spark": "SparK", "hybrid": "Hybrid",
    "mlm": "MLM", "simcse": "SimCSE",
}  # fmt: skip
LEGS = {"scans": "Scans", "text": "Text"}
LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian",
    "fi": "Finnish", "fr": "French", "gl": "Galician", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian",
    "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian",
    "lv": "Latvian", "nb": "Norwegian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovene", "sr": "Serbian", "sv": "Swedish",
    "ta": "Tamil", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def role_of(method: str) -> Role:
    """The part a method plays; one that is not of this house's list counts as a baseline."""
    return METHODS[method].role if method in METHODS else "baseline"


def method_label(method: str, leg: str, pretraining: str = "") -> str:
    """A method's name for people, such as `SimCLR probe` or, for text, `TF-IDF`."""
    if method not in METHODS:
        return method
    name = METHODS[method].scans if leg == "scans" else METHODS[method].text
    return name.format(ssl=pretraining_label(pretraining))


def pretraining_label(pretraining: str) -> str:
    """`mlm+simcse` as people write it, `MLM + SimCSE`; `SSL` where the table names none."""
    return " + ".join(PRETRAINING.get(part, part) for part in pretraining.split("+") if part) or "SSL"


def panel_title(leg: str, task: str, language: str = "", site: str = "") -> str:
    """What a panel is called: `Chinese · sentiment`, `Scans · lobes`."""
    first = LANGUAGES.get(language, language) or LEGS.get(leg, leg)
    return " · ".join(part for part in (first, task.replace("_", " "), site.replace("_", " ")) if part)


def decimal(value: float, sign: bool = False) -> str:
    """A score as papers print it: `.61`, `1.00`, `−.03`; with `sign` also `+.14`; a dash for NaN."""
    if not math.isfinite(value):
        return NOT_RUN
    digits = f"{abs(value):.2f}"
    prefix = "" if float(digits) == 0 else "−" if value < 0 else "+" if sign else ""
    return prefix + (digits[1:] if digits.startswith("0") else digits)


def interval(low: float, high: float, sign: bool = False) -> str:
    """`[.58, .64]`; nothing where there is no interval."""
    known = math.isfinite(low) and math.isfinite(high)
    return f"[{decimal(low, sign)}, {decimal(high, sign)}]" if known else ""


def score(mean: float, low: float, high: float, sign: bool = False) -> str:
    """A mean with its interval: `.61 [.58, .64]`; the mean alone where there is no interval."""
    return f"{decimal(mean, sign)} {interval(low, high, sign)}".rstrip()


def count(value: float) -> str:
    """A number of labels: `13`, `2.4`; a dash for NaN."""
    if not math.isfinite(value):
        return NOT_RUN
    return f"{value:.1f}" if value < 10 and abs(value - round(value)) >= 0.05 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """A duration for people: `4.2 s`, `6 min 12 s`, `1 h 05 min`."""
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
