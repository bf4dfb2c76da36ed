"""Pieces of words: no word is unknown, and what was never said is spelled out.

Byte-level byte-pair encoding (arXiv 1508.07909; bytes as in GPT-2), trained on the dataset's own instructions, or any
tokenizer of the Hugging Face ``tokenizers`` format.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from vla.core.errors import ConfigError, ContractError
from vla.models.text.plain import plain
from vla.models.text.tokenizer import InstructionTokenizer, brief_sentence

_FILE = "tokenizer.json"


class PieceTokenizer(InstructionTokenizer):
    """Reads a sentence made `plain`, or as the tokenizer's own normaliser makes it, if it has one."""

    @staticmethod
    def fit(sentences: Iterable[str], vocabulary: int) -> "PieceTokenizer":
        """At most ``vocabulary`` pieces: every byte, then those that shorten ``sentences`` most."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(sorted({plain(sentence) for sentence in sentences}), trainer)
        return PieceTokenizer(tokenizer)

    @staticmethod
    def pretrained(path: Path) -> "PieceTokenizer":
        """That of a folder which ``save_pretrained`` wrote, or of a ``tokenizer.json``; case stays, spaces become one.

        `ConfigError` where there is none, or none that can be read.
        """
        file = path / _FILE if path.is_dir() else path
        if not file.is_file():
            what = f"has no {_FILE}" if path.is_dir() else "does not exist"
            raise ConfigError(
                f"model.tokenizer.path={path} {what}; give a local folder that save_pretrained of a fast tokenizer "
                f"wrote, or its {_FILE}; nothing is downloaded"
            )
        try:
            tokenizer = Tokenizer.from_str(file.read_text())
        except Exception as error:  # the Rust side raises a bare Exception
            raise ConfigError(
                f"model.tokenizer.path: {file} is no tokenizer of the Hugging Face format ({error})"
            ) from None
        spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.NFC()]
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence(spaces + own)
        tokenizer.no_truncation()  # a sentence that is too long is refused, never cut
        tokenizer.no_padding()
        return PieceTokenizer(tokenizer)

    def ids(self, sentence: str) -> list[int]:
        """See `InstructionTokenizer.ids`; without the tokens that mark where a text begins and ends."""
        said = sentence if self._tokenizer.normalizer is not None else plain(sentence)
        try:
            return list(self._tokenizer.encode(said, add_special_tokens=False).ids)
        except Exception as error:  # the Rust side raises a bare Exception
            raise ContractError(
                f"the tokenizer cannot read the instruction {brief_sentence(sentence)} ({error}); take one that has an "
                "unknown token, or spells bytes"
            ) from None

    def fillers(self, said: Iterable[str]) -> list[int]:
        """Every piece that none of the sentences has, special tokens aside."""
        used = {number for sentence in said for number in self.ids(sentence)}
        special = {token["id"] for token in json.loads(self.to_json())["added_tokens"]}
        return sorted(set(self._vocabulary.values()) - used - special)
