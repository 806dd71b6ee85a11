"""Tests of `deploy/`: its files, and a server of real processes."""
