<<<<<<< HEAD
"""What the judges of the drills put on stage."""
=======
"""What judges of repair drills put on stage."""
>>>>>>> DS1
