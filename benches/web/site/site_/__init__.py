"""The site that each row serves. What differs between the rows comes from the environment, by `rows.py`."""
