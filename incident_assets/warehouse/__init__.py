"""The file or lake: opening, locking, merging, history, moving, publishing, dlt's destination."""
