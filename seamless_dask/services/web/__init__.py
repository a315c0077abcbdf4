"""What browsers and monitors see of a scheduler, behind a token."""
