"""Which words of a command line are its inputs and which its results."""
