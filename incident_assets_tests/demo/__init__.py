"""Tests of the bundled API itself."""
