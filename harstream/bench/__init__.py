"""`harstream bench`: what this machine does, each figure beside a ceiling measured in the same run."""
