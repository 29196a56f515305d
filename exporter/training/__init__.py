"""Training: recipes as data (`recipe`), batched augmentation, the loop, and runs that can be interrupted (`run`)."""
