"""Published numbers as data, and tables made from result rows."""
