"""The API as it is: its endpoints, one request on the wire, pages, typed rows, errors in words."""
