"""A decoder-only transformer for language modelling, after GPT-2 [Radford et al. 2019]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_INIT_STD = 0.02


class GPT(nn.Module):
    """Predict the next symbol from those before it, by causal self-attention.

    Pre-LN blocks (norm, attention, norm, MLP of four times the width with GELU) between an
    embedding of symbols and learned positions, and a final norm with a linear read-out without
    bias. Weights N(0, 0.02), those that end a residual branch divided by sqrt(2 num_layers);
    biases 0.

    Args:
        vocab_size: number of symbols.
        context: longest sequence.
        width: of the embedding and of every block.
        num_layers: blocks.
        num_heads: of each attention; width is a multiple of it.
        dropout: rate on the embedding, on attention weights and on every residual branch.
        tied: one weight for embedding and read-out.

    Raises:
        ValueError: if num_heads does not divide width.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        num_heads: int,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got {width} and {num_heads}")
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            for module in (block.attention.projection, block.mlp.projection):
                nn.init.normal_(module.weight, std=_INIT_STD / (2 * num_layers) ** 0.5)
        if tied:
            self.readout.weight = self.embedding.weight

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits (batch, length, vocab_size) of symbols (batch, length <= context), int64."""
        # Positions of every sequence, not one row for all: each then has gradients of its own.
        places = torch.arange(symbols.shape[1], device=symbols.device).expand_as(symbols)
        x = self.dropout(self.embedding(symbols) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = _Attention(width, num_heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = _MLP(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class _Attention(nn.Module):
    """Causal self-attention; queries, keys and values from one linear layer, in this order."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        rate = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        return self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))


class _MLP(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.expansion = nn.Linear(width, 4 * width)
        self.projection = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.projection(F.gelu(self.expansion(x))))
