"""Our decoding and ``generate`` of transformers, from the same weights, behind the same prefix, to the same tokens.

A Llama is drawn at random and grafted (`vla.models.grafting`): its blocks become our trunk, its table the rows of the
actions. Both read the same embeddings causally, obey the same grammar and write the same number of tokens. Their
tokens are compared before anything is timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import BinsConfig
from vla.models.grafting import from_hf
from vla.models.heads.bins import BinsHead
from vla.models.heads.config import BinsHeadConfig
from vla.models.heads.tokens import TokensHead
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Reading, Segment
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary


@dataclass(frozen=True, kw_only=True)
class SameWeights:
    """One set of weights in two programs, and what both are given."""

    theirs: Any
    trunk: Transformer
    table: TokenTable
    tokens: TokensHead
    parallel: BinsHead
    prefix: Float[Tensor, "b l e"]
    inputs: Inputs
    _told: Callable[..., Any]
    """The grammar as transformers takes it."""

    @torch.inference_mode()
    def ours(self) -> Int64[Tensor, "b l"]:
        """The prefix is read, and a token after the other written."""
        return self.tokens.write(self.trunk, self._read(self.tokens.room), self.table)

    @torch.inference_mode()
    def at_once(self) -> Float[Tensor, "b h d"]:
        """The prefix is read, and all actions are written in one pass of the same trunk."""
        return self.parallel.sample(self.trunk, self._read(self.parallel.room), self.inputs, self.table)

    def generated(self) -> Int64[Tensor, "b l"]:
        """The same tokens by transformers, with its own cache, and without gradients as it comes."""
        begin = self.table.special("begin").expand(len(self.prefix), 1, -1)
        embeds = torch.cat([self.prefix, begin], dim=1)
        written: Tensor = self.theirs.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            max_new_tokens=self.tokens.codec.length,
            do_sample=False,
            logits_processor=[self._told],
        )
        return written

    def require_same_tokens(self) -> None:
        """A `ConfigError` unless both write the same: then their times say nothing."""
        with torch.no_grad():
            ours, theirs = self.ours(), self.generated()
        if ours.shape != theirs.shape or not torch.equal(ours, theirs):
            same = f"{int((ours == theirs).sum())} of {ours.numel()}" if ours.shape == theirs.shape else "none"
            raise ConfigError(
                f"bench policy: ours and transformers' generate agree on {same} tokens ({tuple(ours.shape)} and "
                f"{tuple(theirs.shape)}), expected all: they do not compute the same, so their times are not "
                "compared; is this version of transformers one that tests/models/test_grafting.py passes with?"
            )

    def _read(self, room: int) -> Prefix:
        b, length, _ = self.prefix.shape
        # Causal, as a language model reads: every token a block of its own, all of them before those of the actions.
        block = torch.arange(-length, 0, device=self.prefix.device)
        valid = torch.ones(b, length, dtype=torch.bool, device=self.prefix.device)
        return Reading(self.trunk, {"prefix": Segment(x=self.prefix, valid=valid, block=block)}, room=room)


def same_weights(
    trunk: TransformerConfig, interface: Interface, inputs: Inputs, *, length: int, device: torch.device, seed: int
) -> SameWeights:
    """A Llama of the sizes of ``trunk``, and ours with its weights; a prefix of ``length`` random embeddings."""
    torch.manual_seed(seed)
    chunks = torch.rand(100, interface.horizon, interface.action) * 2 - 1
    codec = BinsConfig().build(BinsConfig().fit(chunks))
    theirs = _llama(trunk, codec.size).to(device)
    own, words = from_hf(theirs)
    table = TokenTable(Vocabulary({"special": len(SPECIALS), "action": codec.size}), trunk.width).to(device)
    tokens = TokensHead(codec, trunk.width).to(device)
    config = BinsHeadConfig()
    parallel = BinsHead(config, interface, trunk.width, config.fit(chunks)).to(device)
    with torch.no_grad():
        table.rows("action").copy_(words.weight)
        tokens.position.zero_()  # Llama has rotary positions alone
    return SameWeights(
        theirs=theirs,
        trunk=own.to(device).eval(),
        table=table,
        tokens=tokens,
        parallel=parallel,
        prefix=torch.randn(len(inputs), length, trunk.width).to(device),
        inputs=inputs.to(device),
        _told=_grammar(codec, len(inputs), device),
    )


def _llama(trunk: TransformerConfig, words: int) -> Any:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=words,
        hidden_size=trunk.width,
        intermediate_size=trunk.hidden,
        num_hidden_layers=trunk.layers,
        num_attention_heads=trunk.heads,
        num_key_value_heads=trunk.keys,
        head_dim=trunk.size,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)  # no end: both write the same number of tokens
    return model


def _grammar(codec: ActionCodec, b: int, device: torch.device) -> Callable[..., Any]:
    """What the codec allows at each place, made ahead: an addition for each token, and nothing else of it is theirs."""
    allowed = codec.grammar(torch.zeros(b, codec.length, dtype=torch.long))
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf).to(device)

    def told(ids: Tensor, scores: Tensor) -> Tensor:
        return scores + bias[:, ids.shape[1]]

    return told
