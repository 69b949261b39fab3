"""Studies that run once in a while, and the scripts that made what the documents show. Not in the wheel."""
