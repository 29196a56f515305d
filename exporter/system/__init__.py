"""What every room needs of the machine: files, downloads, git, the tool's version. Nothing here knows a network."""
