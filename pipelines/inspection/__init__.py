"""What a generator learned: errors by t, identity kept, spoof traces drowned, and the t that this speaks for."""
