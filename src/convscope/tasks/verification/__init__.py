"""Verification: whether two pictures show the same person."""
