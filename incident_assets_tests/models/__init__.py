"""Tests of the models: figures by hand, figures computed another way, and what the SQL survives."""
