"""Tests of what is measured beside this project's own ways."""
