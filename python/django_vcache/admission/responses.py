"""Where `Decision.response()` looks for the response of a refusal."""

from django_vcache.admission.views.refusal import refusal

__all__ = ["refusal"]
