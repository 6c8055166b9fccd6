"""How long things take, and compared with what; see README.md here."""
