"""What a generator learned: its errors by t, how it keeps the identity, and a proposed t. Imports torch."""
