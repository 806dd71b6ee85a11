"""What assets are given at run time: the API's settings, the database, and the IO manager."""
