"""Tests of the lake, on a PostgreSQL cluster of their own."""
