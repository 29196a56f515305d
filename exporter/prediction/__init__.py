"""From pictures to the likeliest classes."""
