"""What an audit of texts looks for."""

from pydantic import Field

from toolkit.config import Section


class TextAuditConfig(Section):
    """What an audit of texts looks for."""

    near: float = Field(0.8, gt=0, le=1)
    """Share of common shingles from which two texts are near-duplicates; 1 looks for exact repeats only."""
    languages: bool = False
    """Identify each text's language, and count those that are surely in another than they are filed under."""
    personal: bool = True
    """Look for personal data."""
