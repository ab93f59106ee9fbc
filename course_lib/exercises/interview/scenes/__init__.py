"""What judges of repair drills put on stage."""
