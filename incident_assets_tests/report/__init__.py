"""Tests of the reliability report, on made-up marts."""
