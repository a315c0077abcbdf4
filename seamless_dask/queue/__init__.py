"""What ``seamless-run --qsubmit`` has submitted."""
