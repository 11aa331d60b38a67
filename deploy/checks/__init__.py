"""What deploy/check is made of. The standard library only."""
