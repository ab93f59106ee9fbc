"""What the judges of lesson 00 put on stage, shared by several exercises."""
