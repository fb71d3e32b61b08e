"""What the conventions of the configuration are, who has what, and what each is worth."""
