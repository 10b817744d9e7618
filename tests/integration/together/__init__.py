"""Tasks without effects, executed together and recorded in one commit."""
