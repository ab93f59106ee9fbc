"""What the tests of lesson 09 are given, and the code that they are tried on."""
