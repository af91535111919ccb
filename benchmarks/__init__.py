"""Measurements behind published tables that are run in a checkout and are no part of the wheel."""
