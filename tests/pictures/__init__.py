"""Pictures of the documents, made from the running program."""
