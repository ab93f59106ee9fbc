"""Scenes of repair drills, each next to the drill that is named for it or shared by several."""
