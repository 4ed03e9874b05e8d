"""From whatever a hospital exported to an audited manifest under pseudonyms: `fewlabel data audit`."""

from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.folder import audit_folder
from toolkit.scans.audit.listing import Audit

__all__ = ["Audit", "AuditConfig", "audit_folder"]
