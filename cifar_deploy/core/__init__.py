"""What the rest stands on: values, files, processes. Knows no stage and no choice; imports numpy and the stdlib."""
