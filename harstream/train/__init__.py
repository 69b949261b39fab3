"""Training of model bundles from recordings, and their validation by subject."""
