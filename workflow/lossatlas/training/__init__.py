"""Training: engine, schedules, resume state, checkpoints."""
