"""Mutants: small bugs put into copies of the code, to see that the tests notice each of them.

The bugs that would hurt most are chosen by hand in `chosen`; others are drawn in `drawn`. What a
mutation is, and how one is tried, is in `trying`; `python -m incident_assets_tests.mutants`
(`make mutants`) tries all and prints those that survived.
"""
