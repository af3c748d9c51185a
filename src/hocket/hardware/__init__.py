"""What the machine is and offers."""
