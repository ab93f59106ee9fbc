"""What several judges of lesson 08 put on stage."""
