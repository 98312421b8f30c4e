"""The command line: a module for the verbs of each feature. What only some verbs need, and takes long, they import."""
