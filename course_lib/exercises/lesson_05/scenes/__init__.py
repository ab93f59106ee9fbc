"""What the judges of lesson 05 put on stage, shared by several exercises."""
