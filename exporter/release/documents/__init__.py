"""What a release says of itself: configuration, model card, bill of materials, attestations."""
