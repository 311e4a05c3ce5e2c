"""Committees: how much several classifiers know together that each of them does not."""
