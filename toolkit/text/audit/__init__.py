"""An audit of texts before anything is learnt from them: counts, repeats, odd characters, personal data."""

from toolkit.text.audit.config import TextAuditConfig
from toolkit.text.audit.run import TextAudit, audit_texts

__all__ = ["TextAudit", "TextAuditConfig", "audit_texts"]
