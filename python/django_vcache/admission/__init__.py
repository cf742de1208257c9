"""Admission: who may come in, and what becomes of what they bring."""
