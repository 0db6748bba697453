"""What the files of a repository show of how its service is built, started and tested; one file a language."""
