"""What a run, a message and a mailbox are, and what may happen to them."""
