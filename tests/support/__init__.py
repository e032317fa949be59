"""Builders of small data sets and other helpers that tests share."""
