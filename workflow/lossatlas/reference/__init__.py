"""What the papers' authors published, read safely."""
