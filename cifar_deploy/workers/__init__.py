"""What runs in a fresh Python, one call each, and the values that both sides exchange. No stage is imported here."""
