"""What the judges of the drills put on stage."""
