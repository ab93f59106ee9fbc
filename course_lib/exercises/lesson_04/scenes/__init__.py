"""What the judges of lesson 04 put on stage, shared by several exercises."""
