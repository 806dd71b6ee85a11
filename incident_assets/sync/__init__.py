"""One sync: fetch whole listings, decide what they mean for the tables, load what differs.

Beside it is what goes with an account as a whole: whose it is, readiness, masking, forgetting.
"""
