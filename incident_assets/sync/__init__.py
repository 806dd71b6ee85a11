"""One sync: fetch whole listings, decide what they mean for the tables, load what differs."""
