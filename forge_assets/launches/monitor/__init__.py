"""The six tables of what runs in the clouds, each row with how well its region was read."""
