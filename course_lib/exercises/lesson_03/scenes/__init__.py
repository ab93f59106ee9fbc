"""What the judges of lesson 03 put on stage, shared by several exercises."""
