"""From whatever a hospital exported to an audited manifest under pseudonyms: `fewlabel data audit`."""

from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.folder import Audit, audit_folder

__all__ = ["Audit", "AuditConfig", "audit_folder"]
