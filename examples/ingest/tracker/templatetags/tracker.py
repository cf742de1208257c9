"""Filters of the pages."""

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import filesizeformat

register = template.Library()


@register.filter
def amount(number: int, unit: str) -> str:
    """So many events, or so many bytes."""
    return filesizeformat(number) if unit == "bytes" else intcomma(number)
