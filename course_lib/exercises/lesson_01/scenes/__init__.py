"""What the judges of lesson 01 put on stage."""
