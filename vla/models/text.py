"""Instructions to text tokens: byte-level BPE, trained on the instructions of a dataset.

Byte-level, so any sentence in any script encodes; trained on the words in use, so those take one token each.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vla.core.errors import CheckpointError


class InstructionTokenizer:
    """Sentences to ids padded to a fixed length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @staticmethod
    def train(sentences: Iterable[str], *, size: int = 512) -> "InstructionTokenizer":
        """Learn merges until ``size`` tokens or until every word of ``sentences`` is one token."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, min_frequency=1)
        tokenizer.train_from_iterator(sorted(set(sentences)), trainer)
        return InstructionTokenizer(tokenizer)

    @staticmethod
    def from_json(text: str) -> "InstructionTokenizer":
        """Read what `to_json` wrote."""
        try:
            return InstructionTokenizer(Tokenizer.from_str(text))
        except Exception as error:  # the Rust side raises a bare Exception
            raise CheckpointError(f"the instruction tokenizer is damaged: {error}") from None

    def to_json(self) -> str:
        """The Hugging Face ``tokenizers`` format."""
        return str(self._tokenizer.to_str())

    def digest(self) -> str:
        """Changes when the mapping does."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=6).hexdigest()

    def __len__(self) -> int:
        """Number of text tokens."""
        return int(self._tokenizer.get_vocab_size())

    def words(self) -> list[str]:
        """The longest pieces that it knows: words, where it was trained on few; beginnings of others are left out."""
        pieces = {piece[1:] for piece in self._tokenizer.get_vocab() if piece.startswith("Ġ") and len(piece) > 1}
        return sorted(p for p in pieces if not any(other != p and other.startswith(p) for other in pieces))

    def encode(self, sentences: Sequence[str], length: int) -> tuple[Int64[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
        """Ids padded with 0 to ``length`` and which of them are real; longer sentences keep their first tokens."""
        ids = np.zeros((len(sentences), length), np.int64)
        valid = np.zeros((len(sentences), length), bool)
        for row, encoding in enumerate(self._tokenizer.encode_batch([s.lower().strip() for s in sentences])):
            kept = encoding.ids[:length]
            ids[row, : len(kept)] = kept
            valid[row, : len(kept)] = True
        return ids, valid

    def decode(self, ids: Sequence[int]) -> str:
        """The sentence that ``ids`` spell."""
        return str(self._tokenizer.decode(list(ids))).strip()
