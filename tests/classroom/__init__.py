"""The classroom: one server, many learners, one teacher."""
