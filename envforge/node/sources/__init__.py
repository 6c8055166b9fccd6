"""What comes from outside to a node: bundles, mirrors, lockfiles, signatures; hostile until checked."""
