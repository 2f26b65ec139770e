"""How the nano models are made: scenes → shards, written by mmsynth → trainers → weights that mmsynth ships."""
