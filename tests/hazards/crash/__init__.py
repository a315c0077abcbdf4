"""What a power cut may leave, worked out from the system calls that a program has made."""
