"""From whatever a hospital exported to an audited manifest under pseudonyms: `fewlabel data audit`."""

from toolkit.scans.audit.audit import Audit, audit
from toolkit.scans.audit.config import AuditConfig

__all__ = ["Audit", "AuditConfig", "audit"]
