"""The papers' claims, checked on tables."""
