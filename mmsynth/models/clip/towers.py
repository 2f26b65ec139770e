"""Skips work in open_clip's towers that does not change the embedding.

An image tower that pools the class token needs no other token after its last attention. A causal text tower needs no
position after the pooled one. Both shortcuts are exact, and used only on towers for which that is known.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmsynth.models.clip.text import Tokens


class FirstTokenBlock(nn.Module):
    """A tower's last block, computed for its first token alone: [n, length, width] → [n, 1, width].

    The other tokens are still attended to. Of a block's six matrix products over every token, two remain.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self._block = block

    def forward(self, x: Tensor, *_unused: object, attn_mask: None = None) -> Tensor:
        block, attended = self._block, self._block.ln_1(x)
        first = x[:, :1] + block.ls_1(block.attention(attended[:, :1], attended, attended, attn_mask))
        # open_clip's blocks have no types either: it is a tensor
        return first + block.ls_2(block.mlp(block.ln_2(first)))  # type: ignore[no-any-return]  # untyped towers


def pool_before_last_block(visual: Any) -> bool:
    """Make a ViT that pools its class token skip the other tokens in its last block. Returns whether it is one."""
    from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer

    if type(visual) is not VisionTransformer or type(visual.transformer) is not Transformer:
        return False
    blocks = visual.transformer.resblocks
    pools_first = visual.pool_type == "tok" and visual.attn_pool is None and not visual.output_tokens
    # open_clip reads the dtype from the first block, which a tower with one block must keep
    plain = len(blocks) > 1 and type(blocks[-1]) is ResidualAttentionBlock and blocks[-1].attn.batch_first
    if pools_first and plain:
        blocks[-1] = FirstTokenBlock(blocks[-1])
    return pools_first and plain


class CausalText:
    """open_clip's causal text tower, run on the positions that decide the embedding and no more.

    Under a causal mask a position sees none after it, so positions after the pooled one (the end-of-text token) cannot
    change it. A caption of 15 tokens needs 15 of the 77 positions, and the embedding is the same.
    """

    def __init__(self, tower: Any, pool: str, end: int) -> None:
        self._tower, self._pool, self._end = tower, pool, end

    @classmethod
    def of(cls, model: Any) -> "CausalText | None":
        """For CLIP and for a TextTransformer that pools at the end-of-text token. None if later positions matter."""
        from open_clip.model import CLIP, CustomTextCLIP
        from open_clip.transformer import TextTransformer

        if type(model) is CLIP:
            tower, pool, end = model, model.text_pool_type, getattr(model, "text_eos_id", None)
        elif type(model) is CustomTextCLIP and type(model.text) is TextTransformer:
            tower, pool, end = model.text, model.text.pool_type, getattr(model.text, "eos_id", None)
            # an appended class token, and masks or outputs by token, need every position
            if tower.cls_emb is not None or tower.use_pad_mask or tower.output_tokens:
                return None
        else:
            return None
        if tower.attn_mask is None or not (pool == "argmax" or (pool == "eos" and end is not None)):
            return None
        return cls(tower, pool, int(end or 0))

    def pooled_at(self, tokens: Tokens) -> int:
        """The position that the tower pools, found as in open_clip's text_global_pool."""
        if self._pool == "argmax":
            return tokens.index(max(tokens))
        return tokens.index(self._end) if self._end in tokens else 0

    def embed(self, tokens: Tensor, last: Tensor) -> Tensor:
        """The embeddings of `tokens` [n, length], pooled at the positions `last` [n]."""
        tower, length = self._tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length].contiguous())
        x = tower.ln_final(x[torch.arange(len(x), device=x.device), last])
        projection = tower.text_projection
        # open_clip's towers have no types, so what they give is Any; it is a tensor
        if projection is None:
            return x  # type: ignore[no-any-return]  # untyped towers
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection  # type: ignore[no-any-return]  # untyped towers
