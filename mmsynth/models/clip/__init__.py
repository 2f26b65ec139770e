"""CLIP: finds an open_clip model (find), its two towers (model, towers), captions as tokens (text), heads (head)."""
