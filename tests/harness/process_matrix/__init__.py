"""N processes equal one: a matrix of what was compared and how far it was apart."""
