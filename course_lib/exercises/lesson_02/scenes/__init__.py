"""What the judges of lesson 02 put on stage, shared by several exercises."""
