"""The block engine: moves samples from a source through the stages into shards, in this process or in several."""
