"""The seed of the shipped demo world, for those who must not import what makes it."""

WORLD_SEED = 2016
