"""Quotas on the connection that ``CACHES["default"]`` uses. Each function has a form to await, with ``a`` in front."""

from quota_guest._native import aconnection_id, agrant, aleft, aspend, connection_id, grant, left, spend

__all__ = ["aconnection_id", "agrant", "aleft", "aspend", "connection_id", "grant", "left", "spend"]
